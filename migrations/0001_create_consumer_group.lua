#!lua flags=allow-oom
-- Creates a queue's stream and its consumer group.
--
-- KEYS[1] stream   KEYS[2] state
-- ARGV[1] group
-- Returns 1 when it created the group, 0 when the group was there.
--
-- The group starts at 0 and never at $. Jobs that were added before the group existed are
-- waiting jobs, and $ would hide them for ever.
-- One step, so that `version` is never newer than the schema that is there.

local VERSION = 1

-- Both raise WRONGTYPE before anything is written.
local recorded = tonumber(redis.call('HGET', KEYS[2], 'version')) or 0
local created = 1
if redis.call('EXISTS', KEYS[1]) == 1 then
  for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
    -- A flat array of names and values, of which the first is the group's name.
    if group[2] == ARGV[1] then
      created = 0
    end
  end
end

if created == 1 then
  redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
  -- Workers of version 0.1.0 keep the mark of 0002 here, and make a new one when it is absent.
  redis.call('HDEL', KEYS[2], 'incarnation')
end
if recorded < VERSION then
  redis.call('HSET', KEYS[2], 'version', VERSION)
end
return created
