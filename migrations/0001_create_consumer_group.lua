#!lua flags=allow-oom
-- Creates a queue's stream and its consumer group.
--
-- KEYS[1] stream   KEYS[2] state
-- ARGV[1] group
-- Returns 1 when it created the group, 0 when the group was there.
--
-- The group starts at 0 and never at $: jobs that were added before the group
-- existed are waiting jobs, and $ would hide them for ever.
-- One step, so that the recorded version never runs ahead of the schema.

local VERSION = 1

-- Raises WRONGTYPE before anything is written.
local recorded = tonumber(redis.call('HGET', KEYS[2], 'version')) or 0

local created = 1
local reply = redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
if reply.err then
  if not string.find(reply.err, 'BUSYGROUP', 1, true) then
    return reply
  end
  created = 0
end

if recorded < VERSION then
  redis.call('HSET', KEYS[2], 'version', VERSION)
end
return created
