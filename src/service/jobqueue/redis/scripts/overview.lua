-- Reads what there is to know of a queue as a whole, without any job.
--
-- KEYS[1] stream   KEYS[2] scheduled   KEYS[3] dead letters   KEYS[4] state   KEYS[5] workers
-- KEYS[6] leases   KEYS[7] totals      KEYS[8] done
-- ARGV[1] group
-- Returns {now_ms, entries, pending, next, scheduled, due, due_ms, dead, done, paused,
--   {consumer, JSON, ...}, {{name, pending, idle_ms}, ...}, {name, lease_ms, ...}, {field, count, ...},
--   this_minute, last_minute}:
--   entries    how many the stream has     pending  how many of them are delivered
--   next       the id of the first entry that was never delivered, or ''
--   due        how many scheduled jobs are due now
--   due_ms     when the first scheduled job is due, or ''
--   paused     the field of the state, or ''
--   this_minute, last_minute   how many jobs were completed in this minute of the clock, and in the one before
--   and the workers, the group's consumers, the leases, and the totals of today
--
-- One step, so that a job that moves meanwhile is counted once. Its cost does not depend on how many jobs
-- there are.

local KINDS = {'stream', 'zset', 'stream', 'hash'}
for i, kind in ipairs(KINDS) do
  local refused = wrong(KEYS[i], kind)
  if refused then
    return refused
  end
end

-- The other keys only have figures. One of another type has none, and hides no job.
local function figures(...)
  local reply = redis.pcall(...)
  return type(reply) == 'table' and reply.err and {} or reply
end

local now = now_ms()
local group = group_info(KEYS[1], ARGV[1])
local read_up_to = group and '(' .. group['last-delivered-id'] or '-'
local next_entry = redis.call('XRANGE', KEYS[1], read_up_to, '+', 'COUNT', 1)[1]
local first_due = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')

local consumers = {}
for _, flat in ipairs(group and redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1]) or {}) do
  local info = {}
  for i = 1, #flat, 2 do
    info[flat[i]] = flat[i + 1]
  end
  consumers[#consumers + 1] = {info.name, info.pending, info.idle}
end

-- The day is the same one that the workers write.
local today = ':' .. string.format('%d', math.floor(now / 86400000))
local totals, all = {}, figures('HGETALL', KEYS[7])
for i = 1, #all, 2 do
  if string.sub(all[i], -#today) == today then
    totals[#totals + 1] = string.sub(all[i], 1, -#today - 1)
    totals[#totals + 1] = all[i + 1]
  end
end

local minute = math.floor(now / 60000)
local minutes = figures('HMGET', KEYS[7], 'completed@' .. minute, 'completed@' .. minute - 1)

return {
  now,
  redis.call('XLEN', KEYS[1]),
  group and group.pending or 0,
  next_entry and next_entry[1] or '',
  redis.call('ZCARD', KEYS[2]),
  redis.call('ZCOUNT', KEYS[2], '-inf', now),
  first_due[2] or '',
  redis.call('XLEN', KEYS[3]),
  tonumber(figures('XLEN', KEYS[8])) or 0,
  redis.call('HGET', KEYS[4], 'paused') or '',
  figures('HGETALL', KEYS[5]),
  consumers,
  figures('ZRANGE', KEYS[6], 0, -1, 'WITHSCORES'),
  totals,
  tonumber(minutes[1]) or 0,
  tonumber(minutes[2]) or 0,
}
