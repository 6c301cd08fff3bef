-- Writes what a worker tells of itself.
--
-- KEYS[1] workers
-- ARGV[1] this consumer   ARGV[2] the beginning of a JSON object, up to its last value
-- ARGV[3] for how many ms the worker has been there
--
-- A script, because the times are those of Redis' clock.

local now = math.floor(now_us() / 1000)
redis.call('HSET', KEYS[1], ARGV[1], string.format('%s,"started_ms":%d,"seen_ms":%d}', ARGV[2],
  now - tonumber(ARGV[3]), now))
