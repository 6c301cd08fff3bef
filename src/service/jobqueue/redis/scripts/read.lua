-- Delivers waiting entries as XREADGROUP does, in a reply of bounded size.
--
-- KEYS[1] stream
-- ARGV[1] group   ARGV[2] this consumer   ARGV[3] how many at most   ARGV[4] max_bytes
-- Returns {{id, fields or bytes, 1}, ...}: the entry that makes them more than max_bytes
--   comes as the number of its bytes, without its fields. It is the last one.
--
-- XREADGROUP counts entries and not bytes, so its reply may be too large to arrive. A
-- script cannot wait for entries, so it is used only for a while after such an entry was
-- met. It reads one entry at a time, because Redis copies an entry before it knows its size.

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
