-- Runs dead letters again.
--
-- KEYS[1] dead letters   KEYS[2] stream
-- ARGV[...] threes: id of a dead letter, SHA-1 of its job in hex, the job as it is to run
-- Returns {entry id or '', ...}: the id of the job's new entry, or '' when the dead letter was not there any
--   more or has another job.
--
-- One step, so that the job is in the stream before its dead letter is deleted, and nobody runs it twice.

local refused = refusal(KEYS[2], 'stream', {
  {'XADD', KEYS[2], '*', 'job', ''}, {'XDEL', KEYS[1], '0-1'},
}) or refusal(KEYS[1], 'stream', {})
if refused then
  return refused
end

local function job_of(letter)
  for i = 1, #letter, 2 do
    if letter[i] == 'job' then
      return letter[i + 1]
    end
  end
end

local entries = {}
for i = 1, #ARGV, 3 do
  local letter = redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])[1]
  local job, id = letter and job_of(letter[2]), ''
  if job and redis.sha1hex(job) == ARGV[i + 1] then
    id = redis.call('XADD', KEYS[2], '*', 'job', ARGV[i + 2])
    redis.call('XDEL', KEYS[1], ARGV[i])
  end
  entries[#entries + 1] = id
end
return entries
