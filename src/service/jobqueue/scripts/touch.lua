-- Sets the idle time of entries that this consumer owns: 0 renews a lease, a
-- whole lease puts the entry back for anyone to claim.
--
-- KEYS[1] stream
-- ARGV[1] group   ARGV[2] this consumer   ARGV[3] idle_ms
-- ARGV[4...] pairs: entry id, delivery count to set ('' leaves it)
-- Returns {1|0, ...}: whether this consumer still owned the entry.
--
-- One step, because XCLAIM with a min-idle-time of 0 takes an entry from
-- whoever owns it: without the check a worker that lost its lease would steal
-- the job back while another runs it. JUSTID leaves the delivery count alone.

-- Known before there is an entry to touch, too.
local refused = refusal(KEYS[1], 'stream', {{'XCLAIM', KEYS[1], ARGV[1], ARGV[2], '0', '0-1'}})
if refused then
  return refused
end

local owned = {}
for i = 4, #ARGV, 2 do
  local id, count = ARGV[i], ARGV[i + 1]
  local mine = owns(KEYS[1], ARGV[1], ARGV[2], id)
  owned[#owned + 1] = mine and 1 or 0
  if mine then
    if count == '' then
      redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, id, 'IDLE', ARGV[3], 'JUSTID')
    else
      redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, id, 'IDLE', ARGV[3],
        'RETRYCOUNT', count, 'JUSTID')
    end
  end
end
return owned
