#!lua flags=allow-oom
-- Acknowledges and deletes entries whose job is done.
--
-- KEYS[1] stream
-- ARGV[1] group   ARGV[2...] entry ids
-- Returns how many were deleted now.
--
-- One step, so that no entry is acknowledged and stays. Not fenced: the job did run,
-- whoever owns the entry. A script and no MULTI, because a Redis whose memory is full
-- refuses every command within a transaction, and workers have to drain it.

redis.call('XACK', KEYS[1], unpack(ARGV))
return redis.call('XDEL', KEYS[1], unpack(ARGV, 2))
