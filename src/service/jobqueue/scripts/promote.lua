-- Moves jobs that are due from the scheduled set to the stream.
--
-- KEYS[1] scheduled   KEYS[2] stream
-- ARGV[1] how many at most
-- Returns {moved, due_in_us}: how many were moved, and the time until the next
-- job is due (0 when some are due already), -1 when none is left.
--
-- One step: a job is in the stream before it leaves the set, and two workers
-- cannot promote it twice. Redis' clock decides when a job is due.

local refused = refusal(KEYS[2], 'stream', {
  {'XADD', KEYS[2], '*', 'job', ''}, {'ZREM', KEYS[1], ''},
})
if refused then
  return refused
end

local clock_us = now_us()
local now = math.floor(clock_us / 1000)

local due = redis.call('ZRANGE', KEYS[1], '-inf', now, 'BYSCORE', 'LIMIT', 0, ARGV[1])
for _, member in ipairs(due) do
  -- The entry id before the colon only keeps equal jobs apart.
  local _, prefix = string.find(member, '^%d+%-%d+:')
  redis.call('XADD', KEYS[2], '*', 'job', string.sub(member, (prefix or 0) + 1))
end
if #due > 0 then
  redis.call('ZREM', KEYS[1], unpack(due))
end

local due_in = -1
local head = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
if head[2] then
  due_in = math.max(0, tonumber(head[2]) * 1000 - clock_us)
end
return {#due, due_in}
