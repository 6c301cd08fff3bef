-- Reads a part of what is delivered and not acknowledged.
--
-- KEYS[1] stream
-- ARGV[1] group   ARGV[2] from which entry id on   ARGV[3] how many rows at most
-- ARGV[4] only those of this consumer; may be left out
-- Returns {now_ms, read_up_to, {{id, consumer, idle_ms, deliveries}, ...}}: the entry id up to which the
-- group has read, or '' when there is no group
--
-- One step, because only Redis' clock at that moment tells which entries were put back.

local refused = wrong(KEYS[1], 'stream')
if refused then
  return refused
end
local group = group_info(KEYS[1], ARGV[1])
if not group then
  return {now_ms(), '', {}}
end
local rows = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[2], '+', unpack(ARGV, 3))
return {now_ms(), group['last-delivered-id'], rows}
