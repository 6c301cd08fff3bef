-- Moves entries that this consumer owns to the scheduled set: parks a job until
-- its delay is over, or a failed one until its next attempt.
--
-- KEYS[1] stream   KEYS[2] scheduled   KEYS[3] cancel
-- ARGV[1] group    ARGV[2] this consumer   ARGV[3] incarnation
-- ARGV[4...] for each entry: its id, what the delay counts from ('entry' or 'now'),
--   delay_ms, how many bytes its job has, the number n of edits that follow, and n times
--   where an edit begins, where it ends (bytes, from 0), and the text to put there
-- Returns {{outcome, ...}, due_in_us}:
--   outcome    1 moved
--              0 not moved: it is not owned any more, it was deleted, or it has another
--              job than the one that the edits are for
--              2 its delay is over: it is left where it is, to be run. A failed job is moved
--              even when its wait is over, because the move is what counts the attempt.
--              3 somebody wants it cancelled: it is left where it is, to be buried
--   due_in_us  time until the earliest of the moved jobs, when that is now the
--              earliest of all, else -1
--
-- One step, so that the job is in the set before it leaves the stream, and a worker that
-- lost its lease moves nothing. Redis' clock decides when a job is due. Redis copies the
-- job from the entry, so that no line has to carry it back.

local refused = replaced(KEYS[1], ARGV[1], ARGV[3]) or refusal(KEYS[2], 'zset', {
  {'ZADD', KEYS[2], '0', ''}, {'XACK', KEYS[1], ARGV[1], '0-1'}, {'XDEL', KEYS[1], '0-1'},
})
if refused then
  return refused
end

-- `job` with the `n` edits that begin at ARGV[i].
local function edited(job, i, n)
  local parts, from = {}, 1
  for k = i, i + 3 * (n - 1), 3 do
    parts[#parts + 1] = string.sub(job, from, ARGV[k])
    parts[#parts + 1] = ARGV[k + 2]
    from = ARGV[k + 1] + 1
  end
  parts[#parts + 1] = string.sub(job, from)
  return table.concat(parts)
end

local clock_us = now_us()
local now = math.floor(clock_us / 1000)

local head = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
local earliest = head[2] and tonumber(head[2]) or math.huge
local first = math.huge

-- The range that is asked for below: the first and the last id, and how many there are.
local first_id, last_id, count, at = ARGV[4], nil, 0, 4
while at <= #ARGV do
  last_id, count = ARGV[at], count + 1
  at = at + 5 + 3 * tonumber(ARGV[at + 4])
end

-- Most of the entries, in one call: they usually stand in the order of their delivery, and
-- next to each other. The others are asked for one by one.
local owned = {}
for _, row in ipairs(redis.call('XPENDING', KEYS[1], ARGV[1], first_id, last_id, count, ARGV[2])) do
  owned[row[1]] = true
end

-- The job of an entry. The entry comes with those behind it, which are usually asked for next, but no
-- more than are `left`: twice as many as the last time, or alone after others than owned ones had come.
-- Those may be large.
local jobs, together = {}, 1
local function job_of(id, left)
  if not jobs[id] then
    local entries = redis.call('XRANGE', KEYS[1], id, '+', 'COUNT', math.min(together, left))
    together = math.min(2 * together, 32)
    for _, entry in ipairs(entries) do
      jobs[entry[1]] = entry[2][2]
      together = owned[entry[1]] and together or 1
    end
  end
  return jobs[id]
end

-- The move gives a job another entry id. So a job that is to be cancelled, as its present id says,
-- is not moved. This is rare, so the worker makes the dead letter, in a command of its own.
local cancels = redis.pcall('HLEN', KEYS[3])
local function is_cancelled(id)
  return type(cancels) == 'number' and cancels > 0 and redis.call('HEXISTS', KEYS[3], id) == 1
end

-- What is moved, in one call each: scores and members in turn, and ids. What stands here is
-- not owned any more, so a command that names it twice moves it once.
local members, moved = {}, {}
local outcomes = {}
local i = 4
while i <= #ARGV do
  local id, from, delay = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2])
  local bytes, n = tonumber(ARGV[i + 3]), tonumber(ARGV[i + 4])
  local outcome = 0
  if owned[id] == nil then
    owned[id] = owns(KEYS[1], ARGV[1], ARGV[2], id)
  end
  if owned[id] then
    local due = now + delay
    if from == 'entry' then
      -- After the clock has leapt back, an id may lie in the future.
      due = math.min(tonumber(string.match(id, '^%d+')), now) + delay
    end
    if is_cancelled(id) then
      outcome = 3
    elseif from == 'entry' and due <= now then
      outcome = 2
    else
      local job = job_of(id, count - #outcomes)
      if not job then
        -- Somebody has deleted the entry, and there is nothing left to move.
        redis.call('XACK', KEYS[1], ARGV[1], id)
        owned[id] = false
      elseif #job == bytes then
        members[#members + 1] = due
        members[#members + 1] = id .. ':' .. edited(job, i + 5, n)
        moved[#moved + 1] = id
        owned[id] = false
        first = math.min(first, due)
        outcome = 1
      end
    end
  end
  outcomes[#outcomes + 1] = outcome
  i = i + 5 + 3 * n
end

if #moved > 0 then
  redis.call('ZADD', KEYS[2], unpack(members))
  redis.call('XACK', KEYS[1], ARGV[1], unpack(moved))
  redis.call('XDEL', KEYS[1], unpack(moved))
end

local due_in = -1
if first < earliest then
  due_in = math.max(0, first * 1000 - clock_us)
end
return {outcomes, due_in}
