-- Delivers waiting entries as XREADGROUP does, in a reply of bounded size.
--
-- KEYS[1] stream
-- ARGV[1] group   ARGV[2] this consumer   ARGV[3] how many at most   ARGV[4] max_bytes
-- Returns {{id, fields or bytes, 1}, ...}: the entry with which they have more than
--   max_bytes comes as the number of its bytes, without its fields, and is the last one.
--
-- XREADGROUP counts entries and not bytes, so its reply may be too large to arrive. A
-- script cannot wait for entries: this is for when such entries have been met. It reads
-- one at a time, since Redis copies each of them before its bytes are known.

local left = tonumber(ARGV[4])
local read = {}
for _ = 1, tonumber(ARGV[3]) do
  local streams = redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', 1,
    'STREAMS', KEYS[1], '>')
  if not streams then
    break
  end
  local entry = streams[1][2][1]
  local bytes = size(entry[2])
  left = left - bytes
  read[#read + 1] = {entry[1], left < 0 and bytes or entry[2], 1}
  if left < 0 then
    break
  end
end
return read
