#!lua flags=allow-oom
-- Gives the stream a mark when its group was created anew.
--
-- KEYS[1] stream   KEYS[2] state
-- ARGV[1] group    ARGV[2] a text that no other process has
-- Returns the stream's mark.
--
-- An entry id alone does not say which job is meant. A Redis that lost its data, and whose
-- clock is behind, gives the same ids again. So all outcomes but "put back" and "put off"
-- carry the mark of the stream that their entry was read from. In a stream with another mark
-- they change nothing.

local VERSION = 2

-- Raises WRONGTYPE before anything is written.
local recorded = tonumber(redis.call('HGET', KEYS[2], 'version')) or 0
-- The time is in it because one process may create the group anew more than once.
local mark = ARGV[2] .. '-' .. table.concat(redis.call('TIME'), '.')
redis.call('HSETNX', KEYS[2], 'incarnation', mark)
if recorded < VERSION then
  redis.call('HSET', KEYS[2], 'version', VERSION)
end
return redis.call('HGET', KEYS[2], 'incarnation')
