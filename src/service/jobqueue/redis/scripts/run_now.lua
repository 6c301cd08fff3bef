-- Moves scheduled jobs to the stream before their time.
--
-- KEYS[1] scheduled   KEYS[2] stream
-- ARGV[...] pairs: a member of the scheduled set, and the job as it is to run
-- Returns {entry id or '', ...}: the id of the job's new entry, or '' when the member was not there any
--   more: it was promoted, or another action came first.
--
-- One step, so that a job is in the stream before it leaves the set, and nobody runs it twice. The set
-- loses what the stream gains, so it may run while Redis' memory is full.

local refused = refusal(KEYS[2], 'stream', {
  {'XADD', KEYS[2], '*', 'job', ''}, {'ZREM', KEYS[1], ''},
}) or refusal(KEYS[1], 'zset', {})
if refused then
  return refused
end

local entries = {}
for i = 1, #ARGV, 2 do
  local id = ''
  if redis.call('ZSCORE', KEYS[1], ARGV[i]) then
    id = redis.call('XADD', KEYS[2], '*', 'job', ARGV[i + 1])
    redis.call('ZREM', KEYS[1], ARGV[i])
  end
  entries[#entries + 1] = id
end
return entries
