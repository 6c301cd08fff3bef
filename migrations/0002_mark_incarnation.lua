#!lua flags=allow-oom
-- Gives the group a mark, when it was created anew.
--
-- KEYS[1] stream   KEYS[2] state   KEYS[3] cancel
-- ARGV[1] group    ARGV[2] a text that no other process has
-- Returns the group's mark.
--
-- An entry id alone does not say which job is meant. A Redis that lost its data, and whose
-- clock is behind, gives the same ids again. So does a stream that was renamed and renamed
-- back. So all outcomes but "put back" and "put off" carry the mark of the group that has
-- delivered their entry. In a group with another mark they change nothing.
--
-- The mark is the name of a consumer that nobody reads under, because that stays with the
-- group: when the stream is renamed, restored or deleted, the mark is too.

local VERSION = 2
local PREFIX = 'incarnation:'

local mark
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  -- A flat array of names and values, of which the first is the consumer's name.
  if string.find(consumer[2], PREFIX, 1, true) == 1 then
    mark = string.sub(consumer[2], #PREFIX + 1)
  end
end
-- Raises WRONGTYPE before anything is written.
local recorded = tonumber(redis.call('HGET', KEYS[2], 'version')) or 0
if not mark then
  -- These name entries of a group that is gone. Another one may give their ids again.
  redis.call('DEL', KEYS[3])
  -- The time is in it because one process may create the group anew more than once.
  mark = ARGV[2] .. '-' .. table.concat(redis.call('TIME'), '.')
  redis.call('XGROUP', 'CREATECONSUMER', KEYS[1], ARGV[1], PREFIX .. mark)
end
if recorded < VERSION then
  redis.call('HSET', KEYS[2], 'version', VERSION)
end
return mark
