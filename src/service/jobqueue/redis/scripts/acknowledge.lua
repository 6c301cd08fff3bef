-- Acknowledges and deletes entries whose jobs have finished.
--
-- KEYS[1] stream
-- ARGV[1] group    ARGV[2] incarnation   ARGV[3...] entry ids
-- Returns how many entries were still pending.
--
-- One step, because an entry that is acknowledged and not deleted would count as waiting
-- for ever. A script and not MULTI, because a Redis whose memory is full refuses to queue
-- commands in MULTI, and the workers could not drain it.

local refused = replaced(KEYS[1], ARGV[1], ARGV[2]) or refusal(KEYS[1], 'stream', {
  {'XDEL', KEYS[1], '0-1'}, {'XACK', KEYS[1], ARGV[1], '0-1'},
})
if refused then
  return refused
end

local acknowledged = redis.call('XACK', KEYS[1], ARGV[1], unpack(ARGV, 3))
redis.call('XDEL', KEYS[1], unpack(ARGV, 3))
return acknowledged
