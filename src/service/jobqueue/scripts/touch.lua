-- Renews the leases of entries that this consumer owns, or puts the entries back for
-- anyone to claim.
--
-- KEYS[1] stream
-- ARGV[1] group   ARGV[2] this consumer   ARGV[3] 'renew' or 'put_back'
-- ARGV[4...] pairs: entry id, delivery count to set ('' leaves it)
-- Returns {1|0, ...}: whether this consumer still owned the entry.
--
-- One step, because XCLAIM with a min-idle-time of 0 takes an entry from
-- whoever owns it: without the check a worker that lost its lease would steal
-- the job back while another runs it. JUSTID leaves the delivery count alone. What is
-- put back has been idle since 1970: no lease that ran out looks so, and the reclaim
-- can tell them apart.

-- Known before there is an entry to touch, too.
local refused = refusal(KEYS[1], 'stream', {{'XCLAIM', KEYS[1], ARGV[1], ARGV[2], '0', '0-1'}})
if refused then
  return refused
end

local idle = 0
if ARGV[3] == 'put_back' then
  idle = math.floor(now_us() / 1000) - 1
end

local owned = {}
for i = 4, #ARGV, 2 do
  local id, count = ARGV[i], ARGV[i + 1]
  local mine = owns(KEYS[1], ARGV[1], ARGV[2], id)
  owned[#owned + 1] = mine and 1 or 0
  if mine then
    if count == '' then
      redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, id, 'IDLE', idle, 'JUSTID')
    else
      redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, id, 'IDLE', idle,
        'RETRYCOUNT', count, 'JUSTID')
    end
  end
end
return owned
