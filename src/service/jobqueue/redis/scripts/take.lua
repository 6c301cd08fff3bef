-- Delivers entries again that this consumer owns but never received: the reply
-- that carried them was lost, or was not to carry them.
--
-- KEYS[1] stream
-- ARGV[1] group   ARGV[2] this consumer   ARGV[3] lease_ms   ARGV[4] max_bytes
-- ARGV[5] what the delivery counts: 0 for one that was counted already, else 1
-- ARGV[6...] entry ids
-- Returns {looked, {{id, fields or bytes, deliveries}, ...}}: how many of the ids it looked
--   at, and of those the entries that this consumer still owns. One that has more than
--   max_bytes alone comes as the number of its bytes, without its fields.
--
-- One step, so that an entry that another worker claimed meanwhile is not
-- stolen back. An entry that has been idle for a lease was put back on purpose, or is the
-- reclaim's business. It looks at no more than one reply can carry: Redis closes a
-- connection whose reply is larger than its output buffer may be, and a slow line
-- takes too long over it.

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
    -- Drops what is pending without its entry from the pending list.
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, id, 'RETRYCOUNT', deliveries, 'JUSTID')
    if entry then
      taken[#taken + 1] = {id, bytes > tonumber(ARGV[4]) and bytes or entry[2], deliveries}
    end
  end
  looked = looked + 1
end
return {looked, taken}
