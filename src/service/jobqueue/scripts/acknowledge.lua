-- Acknowledges and deletes entries whose jobs have finished.
--
-- KEYS[1] stream   KEYS[2] state
-- ARGV[1] group    ARGV[2] incarnation   ARGV[3...] entry ids
-- Returns how many entries were still pending.
--
-- One step, so that an entry is never acknowledged and still there, where it would
-- count as waiting for ever. A script and not MULTI: a Redis whose memory is full
-- refuses to queue any command, and the workers could not drain it.

local refused = replaced(KEYS[2], ARGV[2]) or refusal(KEYS[1], 'stream', {
  {'XDEL', KEYS[1], '0-1'}, {'XACK', KEYS[1], ARGV[1], '0-1'},
})
if refused then
  return refused
end

redis.call('XDEL', KEYS[1], unpack(ARGV, 3))
return redis.call('XACK', KEYS[1], ARGV[1], unpack(ARGV, 3))
