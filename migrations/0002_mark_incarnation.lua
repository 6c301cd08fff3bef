#!lua flags=allow-oom
-- Gives a stream whose group was made anew a mark of its own.
--
-- KEYS[1] stream   KEYS[2] state
-- ARGV[1] group    ARGV[2] what no other process has
-- Returns the stream's mark.
--
-- An entry id alone does not say which job is meant: a Redis that comes back without its
-- data, and with its clock behind, gives the same ids again. Outcomes carry the mark of
-- the stream that their entry was read from, and change nothing in another one.

local VERSION = 2

-- Raises WRONGTYPE before anything is written.
local recorded = tonumber(redis.call('HGET', KEYS[2], 'version')) or 0
-- With the time, since one process may make the group anew more than once.
local mark = ARGV[2] .. '-' .. table.concat(redis.call('TIME'), '.')
redis.call('HSETNX', KEYS[2], 'incarnation', mark)
if recorded < VERSION then
  redis.call('HSET', KEYS[2], 'version', VERSION)
end
return redis.call('HGET', KEYS[2], 'incarnation')
