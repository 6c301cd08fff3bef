-- Tells whether entries are still the ones that were read.
--
-- KEYS[1] stream
-- ARGV[...] pairs: entry id, the beginning of the SHA-1 of its job, in hex
-- Returns {1|0, ...}: 1 when an entry of this id is there, with this job.
--
-- A Redis that comes back may have lost its newest data, and its clock may be behind. Then
-- another job gets the same id.

local same = {}
for i = 1, #ARGV, 2 do
  local entry = redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])[1]
  local digest = entry and string.sub(redis.sha1hex(entry[2][2]), 1, #ARGV[i + 1])
  same[#same + 1] = digest == ARGV[i + 1] and 1 or 0
end
return same
