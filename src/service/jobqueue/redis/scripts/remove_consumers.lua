-- Removes consumers that are gone from the group, and what they have told of themselves.
--
-- KEYS[1] stream   KEYS[2] leases   KEYS[3] state   KEYS[4] workers
-- ARGV[1] group   ARGV[2] this consumer   ARGV[3] 1 when this consumer leaves and is to be
--   removed, 0 when all others that are gone are to be removed
-- ARGV[4] min_idle_ms: a living worker is idle for less, however far away it is
-- ARGV[5] recovery_ms: within this time after a stall a living worker looks for expired leases
-- Returns how many were removed.
--
-- One step, because deleting a consumer drops what it has pending: only a consumer that
-- has nothing pending may be removed. If it lives all the same, its next look for expired
-- leases creates it again.

local longest = tonumber(redis.call('ZRANGE', KEYS[2], -1, -1, 'WITHSCORES')[2]) or 0
local leaving = ARGV[3] == '1'

-- After a freeze of Redis or of all workers, or a leap of the clock, living consumers look
-- idle until they had time to show that they live. The looks leave marks that tell this.
local function stalled()
  local marks = redis.pcall('HMGET', KEYS[3], 'reclaim_seen_ms', 'reclaim_stall_ms')
  local now = math.floor(now_us() / 1000)
  local seen, stall = tonumber(marks[1]), tonumber(marks[2]) or 0
  local recovery = tonumber(ARGV[5])
  return not seen or seen > now or now - seen > recovery or now - stall < recovery
end

-- The consumer's own lease counts, and not that of the worker that looks.
local function is_gone(consumer)
  if string.find(consumer.name, mark_of(''), 1, true) == 1 then
    return false
  end
  if leaving or consumer.name == ARGV[2] then
    return leaving and consumer.name == ARGV[2]
  end
  local lease = tonumber(redis.call('ZSCORE', KEYS[2], consumer.name)) or longest
  return consumer.idle >= math.max(2 * lease, tonumber(ARGV[4]))
end

if not leaving and stalled() then
  return 0
end

local removed, known = 0, {}
for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local consumer = {}
  for i = 1, #flat, 2 do
    consumer[flat[i]] = flat[i + 1]
  end
  if consumer.pending == 0 and is_gone(consumer) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], consumer.name)
    removed = removed + 1
  else
    known[consumer.name] = true
  end
end

-- A worker that has just started tells of itself before it is a consumer.
local now = math.floor(now_us() / 1000)
local told = redis.pcall('HGETALL', KEYS[4])
for i = 1, told.err and 0 or #told, 2 do
  local name, seen = told[i], tonumber(string.match(told[i + 1], '"seen_ms":(%d+)')) or 0
  local lease = tonumber(redis.call('ZSCORE', KEYS[2], name)) or longest
  if not known[name] and (name == ARGV[2] or now - seen >= 2 * lease) then
    redis.call('HDEL', KEYS[4], name)
  end
end

-- A worker that looks for expired leases is a consumer. So a lease without a consumer
-- belongs to one that was removed, here or by hand.
for _, name in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
  if not known[name] then
    redis.call('ZREM', KEYS[2], name)
  end
end
return removed
