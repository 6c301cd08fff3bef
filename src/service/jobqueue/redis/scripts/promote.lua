-- Moves jobs that are due from the scheduled set to the stream.
--
-- KEYS[1] scheduled   KEYS[2] stream
-- ARGV[1] how many at most   ARGV[2] 1 when the reply is to name them, for the log
-- Returns {moved, due_in_us, told}:
--   moved      how many were moved
--   due_in_us  the time until the next job is due (0 when some are due already), -1 when
--              none is left
--   told       {{id of the job's old entry, of its new entry, job's id}, ...}, or nothing
--
-- One step, so that a job is in the stream before it leaves the set, and two workers
-- cannot promote it twice. Redis' clock decides when a job is due.

local refused = refusal(KEYS[2], 'stream', {
  {'XADD', KEYS[2], '*', 'job', ''}, {'ZREMRANGEBYRANK', KEYS[1], '0', '0'},
}) or refusal(KEYS[1], 'zset', {})
if refused then
  return refused
end

-- The job's id, cut at 200 bytes, or ''. cjson changes numbers and arrays when it writes
-- JSON. It is safe here, because nothing is written.
local function job_id_of(job)
  local is_json, decoded = pcall(cjson.decode, job)
  local id = is_json and type(decoded) == 'table' and decoded.id
  return type(id) == 'string' and string.sub(id, 1, 200) or ''
end

local clock_us = now_us()
local now = math.floor(clock_us / 1000)

local told = {}
local due = redis.call('ZRANGE', KEYS[1], '-inf', now, 'BYSCORE', 'LIMIT', 0, ARGV[1])
for _, member in ipairs(due) do
  -- The entry id before the colon only tells equal jobs apart.
  local _, prefix = string.find(member, '^%d+%-%d+:')
  local job = string.sub(member, (prefix or 0) + 1)
  local id = redis.call('XADD', KEYS[2], '*', 'job', job)
  if ARGV[2] == '1' then
    told[#told + 1] = {string.sub(member, 1, (prefix or 1) - 1), id, job_id_of(job)}
  end
end
-- They are the lowest, so their ranks name them. That costs less than their bytes.
if #due > 0 then
  redis.call('ZREMRANGEBYRANK', KEYS[1], 0, #due - 1)
end

local due_in = -1
local head = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
if head[2] then
  due_in = math.max(0, tonumber(head[2]) * 1000 - clock_us)
end
return {#due, due_in, told}
