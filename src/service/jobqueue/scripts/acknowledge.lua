#!lua flags=allow-oom
-- Acknowledges and deletes entries whose jobs have finished.
--
-- KEYS[1] stream
-- ARGV[1] group   ARGV[2...] entry ids
-- Returns how many entries were still pending.
--
-- One step, so that an entry is never acknowledged and still there, where it would
-- count as waiting for ever. A script and not MULTI: a Redis whose memory is full
-- refuses to queue any command, and the workers could not drain it.

-- A script is not rolled back: what an ACL would refuse has to be known before the
-- first write.
for _, command in ipairs({{'XDEL', KEYS[1], '0-1'}, {'XACK', KEYS[1], ARGV[1], '0-1'}}) do
  if not redis.acl_check_cmd(unpack(command)) then
    return redis.error_reply(
      'NOPERM this user has no permissions to run ' .. command[1] .. ' on ' .. command[2])
  end
end

redis.call('XDEL', KEYS[1], unpack(ARGV, 2))
return redis.call('XACK', KEYS[1], unpack(ARGV))
