-- Removes consumers that are gone from the group.
--
-- KEYS[1] stream   KEYS[2] leases
-- ARGV[1] group   ARGV[2] min_idle_ms   ARGV[3] the one consumer to look at, '' for all
-- Returns how many were removed.
--
-- One step, because deleting a consumer drops what it has pending: only one
-- that has nothing pending may go. One that lives is created again by its next
-- command.

local removed, known = 0, {}
for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local consumer = {}
  for i = 1, #flat, 2 do
    consumer[flat[i]] = flat[i + 1]
  end
  local wanted = ARGV[3] == '' or ARGV[3] == consumer.name
  if wanted and consumer.pending == 0 and consumer.idle >= tonumber(ARGV[2]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], consumer.name)
    removed = removed + 1
  else
    known[consumer.name] = true
  end
end

-- Whoever looks for expired leases is a consumer. The others were removed, here or by hand.
for _, name in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
  if not known[name] then
    redis.call('ZREM', KEYS[2], name)
  end
end
return removed
