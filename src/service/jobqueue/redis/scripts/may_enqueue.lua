#!lua flags=no-writes,allow-oom
-- Finds out whether this user may append jobs, without appending one.
--
-- KEYS[1] stream
-- Returns 0, or the error that Redis would answer to XADD.

if not redis.acl_check_cmd('XADD', KEYS[1], '*', 'job', '') then
  return redis.error_reply("NOPERM this user has no permissions to run 'xadd' on " .. KEYS[1])
end
return 0
