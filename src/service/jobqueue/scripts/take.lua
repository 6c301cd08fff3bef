-- Delivers entries again that this consumer owns but never received: the reply
-- that carried them was lost.
--
-- KEYS[1] stream
-- ARGV[1] group   ARGV[2] this consumer   ARGV[3] lease_ms   ARGV[4...] entry ids
-- Returns {{id, fields, deliveries}, ...} for those it still owns.
--
-- One step, so that an entry that another worker claimed meanwhile is not
-- stolen back. The delivery count stays: this is the same delivery. An entry that
-- has been idle for a lease was put back on purpose, or is the reclaim's business.

local taken = {}
for i = 4, #ARGV do
  local id = ARGV[i]
  local pending = redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1, ARGV[2])
  if #pending == 1 and pending[1][3] < tonumber(ARGV[3]) then
    local entry = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, id,
      'RETRYCOUNT', pending[1][4])
    -- Empty when the stream entry is gone: XCLAIM then dropped it from the
    -- pending list as well.
    if #entry == 1 then
      taken[#taken + 1] = {id, entry[1][2], pending[1][4]}
    end
  end
end
return taken
