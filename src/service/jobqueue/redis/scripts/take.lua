-- Delivers entries again that this consumer owns but has not received. The reply that
-- carried them was lost, or had no room for them.
--
-- KEYS[1] stream
-- ARGV[1] group   ARGV[2] this consumer   ARGV[3] lease_ms   ARGV[4] max_bytes
-- ARGV[5] 1 when this delivery counts, 0 when it was counted already
-- ARGV[6...] entry ids
-- Returns {looked, {{id, fields or bytes, deliveries}, ...}}: how many of the ids it looked
--   at, and those entries of them that this consumer still owns. A single entry with more
--   than max_bytes comes as the number of its bytes, without its fields.
--
-- One step, so that an entry that another worker has claimed meanwhile is not stolen back.
-- An entry that has been idle for a lease is left alone: it was put back on purpose, or it
-- is to be reclaimed. The script looks at no more entries than one reply can carry. Redis
-- closes a connection whose reply is larger than its output buffer may be, and a slow line
-- takes too long for it.

local left = tonumber(ARGV[4])
local looked, taken = 0, {}
for i = 6, #ARGV do
  local id = ARGV[i]
  local pending = redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1, ARGV[2])
  if #pending == 1 and pending[1][3] < tonumber(ARGV[3]) then
    local entry = redis.call('XRANGE', KEYS[1], id, id)[1]
    local bytes = entry and size(entry[2]) or 0
    if bytes > left and #taken > 0 then
      break
    end
    left = left - bytes
    local deliveries = pending[1][4] + ARGV[5]
    -- This also drops an id from the pending list whose entry is gone.
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, id, 'RETRYCOUNT', deliveries, 'JUSTID')
    if entry then
      taken[#taken + 1] = {id, bytes > tonumber(ARGV[4]) and bytes or entry[2], deliveries}
    end
  end
  looked = looked + 1
end
return {looked, taken}
