-- Removes consumers that are gone from the group.
--
-- KEYS[1] stream   KEYS[2] leases
-- ARGV[1] group   ARGV[2] the one consumer to remove, which is leaving, '' for any that is
--   gone   ARGV[3] min_idle_ms: a living worker is idle for less, wherever it is
-- Returns how many were removed.
--
-- One step, because deleting a consumer drops what it has pending: only one
-- that has nothing pending may go. One that lives is created again by its next
-- command.

local longest = tonumber(redis.call('ZRANGE', KEYS[2], -1, -1, 'WITHSCORES')[2]) or 0

-- Its own lease counts, and not that of who looks.
local function is_gone(consumer)
  if ARGV[2] ~= '' then
    return ARGV[2] == consumer.name
  end
  local lease = tonumber(redis.call('ZSCORE', KEYS[2], consumer.name)) or longest
  return consumer.idle >= math.max(2 * lease, tonumber(ARGV[3]))
end

local removed, known = 0, {}
for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local consumer = {}
  for i = 1, #flat, 2 do
    consumer[flat[i]] = flat[i + 1]
  end
  if consumer.pending == 0 and is_gone(consumer) then
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
