-- Renews the leases of entries that this consumer owns, or puts the entries back for
-- anyone to claim, at once or later.
--
-- KEYS[1] stream
-- ARGV[1] group   ARGV[2] this consumer   ARGV[3] 'renew', 'put_back', or a number of ms:
--   the entries look as if they had been idle for so long, and keep the rest of a lease
-- ARGV[4...] pairs: entry id, delivery count to set ('' leaves it)
-- Returns {1|0, ...}: whether this consumer still owned the entry.
--
-- One step, because XCLAIM with a min-idle-time of 0 takes an entry from any owner. Without
-- the check a worker that lost its lease would steal the job back while another runs it.
-- JUSTID leaves the delivery count alone. A renewal does not touch an entry that was put
-- back: it may have been on its way when its worker gave the entry up.

-- A refusal is found out also when there is no entry to touch.
local refused = refusal(KEYS[1], 'stream', {{'XCLAIM', KEYS[1], ARGV[1], ARGV[2], '0', '0-1'}})
if refused then
  return refused
end

local time = {'IDLE', tonumber(ARGV[3]) or 0}
if ARGV[3] == 'put_back' then
  time = {'TIME', 1}
end

local put_back = put_back_idle()

local owned = {}
for i = 4, #ARGV, 2 do
  local id, count = ARGV[i], ARGV[i + 1]
  local pending = redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1, ARGV[2])[1]
  owned[#owned + 1] = pending and 1 or 0
  if pending and count ~= '' then
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, id, time[1], time[2],
      'RETRYCOUNT', count, 'JUSTID')
  elseif pending and pending[3] < put_back then
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, id, time[1], time[2], 'JUSTID')
  end
end
return owned
