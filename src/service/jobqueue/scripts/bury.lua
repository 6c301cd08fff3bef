#!lua flags=allow-oom
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

local kind = redis.call('TYPE', KEYS[2]).ok
if kind ~= 'stream' and kind ~= 'none' then
  return redis.error_reply('WRONGTYPE ' .. KEYS[2] .. ' is a ' .. kind .. ', expected a stream')
end

-- A script is not rolled back: what an ACL would refuse has to be known before the
-- first write.
for _, command in ipairs({
  {'XADD', KEYS[2], '*', 'job', ''}, {'XACK', KEYS[1], ARGV[1], '0-1'}, {'XDEL', KEYS[1], '0-1'},
  {'XTRIM', KEYS[2], 'MAXLEN', '1'},
}) do
  if not redis.acl_check_cmd(unpack(command)) then
    return redis.error_reply(
      'NOPERM this user has no permissions to run ' .. command[1] .. ' on ' .. command[2])
  end
end

local owned = {}
local i = 4
while i <= #ARGV do
  local id, n = ARGV[i], tonumber(ARGV[i + 1])
  local pending = redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1, ARGV[2])
  owned[#owned + 1] = #pending
  if #pending == 1 then
    redis.call('XADD', KEYS[2], '*', unpack(ARGV, i + 2, i + 1 + n))
    redis.call('XACK', KEYS[1], ARGV[1], id)
    redis.call('XDEL', KEYS[1], id)
  end
  i = i + 2 + n
end

return {owned, redis.call('XTRIM', KEYS[2], 'MAXLEN', ARGV[3])}
