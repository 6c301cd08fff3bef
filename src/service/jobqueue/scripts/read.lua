-- Delivers waiting entries as XREADGROUP does, in a reply of bounded size.
--
-- KEYS[1] stream
-- ARGV[1] group   ARGV[2] this consumer   ARGV[3] how many at most   ARGV[4] max_bytes
-- Returns {{id, fields or bytes, 1}, ...}: from the entry on with which they have more
--   than max_bytes, each comes as the number of its bytes, without its fields.
--
-- XREADGROUP counts entries and not bytes, so its reply may be too large to arrive. A
-- script cannot wait for entries: this is for when such entries have been met.

local streams = redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', ARGV[3],
  'STREAMS', KEYS[1], '>')
local left = tonumber(ARGV[4])
local read = {}
for _, entry in ipairs(streams and streams[1][2] or {}) do
  local bytes = size(entry[2])
  left = left - bytes
  read[#read + 1] = {entry[1], left < 0 and bytes or entry[2], 1}
end
return read
