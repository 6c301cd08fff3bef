-- Counts what became of jobs, and keeps some of those that have finished.
--
-- KEYS[1] totals   KEYS[2] done
-- ARGV[1] this consumer   ARGV[2] how many finished jobs are kept   ARGV[3] how many counts follow
-- ARGV[4...] pairs: what is counted, and how many there were
-- ARGV[...] eights, one for each finished job: its id, type, attempt, registered_ms, due_ms, how many
--   ms it ran, how many ms ago it ended, and how many finished jobs it stands for
--
-- These are figures for people. A Redis whose memory is full refuses them, and then they are lost. Counts
-- are kept by day (UTC), and those of completed jobs by minute too, for the throughput. The times of a
-- job are those of Redis' clock.

local now = math.floor(now_us() / 1000)
local day, minute = math.floor(now / 86400000), math.floor(now / 60000)

local finished = 4 + 2 * tonumber(ARGV[3])
for i = 4, finished - 1, 2 do
  redis.call('HINCRBY', KEYS[1], ARGV[i] .. ':' .. day, ARGV[i + 1])
  if ARGV[i] == 'completed' then
    redis.call('HINCRBY', KEYS[1], 'completed@' .. minute, ARGV[i + 1])
  end
end
for i = finished, #ARGV, 8 do
  local ended = now - tonumber(ARGV[i + 6])
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[2], '*', 'job_id', ARGV[i], 'type', ARGV[i + 1],
    'attempt', ARGV[i + 2], 'registered_ms', ARGV[i + 3], 'due_ms', ARGV[i + 4],
    'started_ms', string.format('%d', ended - tonumber(ARGV[i + 5])),
    'finished_ms', string.format('%d', ended), 'consumer', ARGV[1], 'count', ARGV[i + 7])
end
