-- Moves entries that this consumer owns to the dead letters.
--
-- KEYS[1] stream   KEYS[2] dead letters
-- ARGV[1] group   ARGV[2] this consumer   ARGV[3] how many dead letters are kept
-- ARGV[4...] for each entry: its id, the number n of strings that follow, and
--   n strings: the dead letter's fields and values in turn
-- Returns {{1|0, ...}, dropped}: whether this consumer still owned the entry, and
-- how many of the oldest dead letters made room.
--
-- One step: the dead letter is there before the job leaves the stream, and a
-- worker that lost its lease buries nothing.

local refused = refusal(KEYS[2], 'stream', {
  {'XADD', KEYS[2], '*', 'job', ''}, {'XTRIM', KEYS[2], 'MAXLEN', '1'},
  {'XACK', KEYS[1], ARGV[1], '0-1'}, {'XDEL', KEYS[1], '0-1'},
})
if refused then
  return refused
end

local owned = {}
local i = 4
while i <= #ARGV do
  local id, n = ARGV[i], tonumber(ARGV[i + 1])
  local mine = owns(KEYS[1], ARGV[1], ARGV[2], id)
  owned[#owned + 1] = mine and 1 or 0
  if mine then
    redis.call('XADD', KEYS[2], '*', unpack(ARGV, i + 2, i + 1 + n))
    redis.call('XACK', KEYS[1], ARGV[1], id)
    redis.call('XDEL', KEYS[1], id)
  end
  i = i + 2 + n
end

return {owned, redis.call('XTRIM', KEYS[2], 'MAXLEN', ARGV[3])}
