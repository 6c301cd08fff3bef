-- Takes over entries whose lease ran out, and keeps the mark that tells a dead
-- worker from a stalled Redis.
--
-- KEYS[1] stream   KEYS[2] state
-- ARGV[1] group          ARGV[2] this consumer   ARGV[3] lease_ms
-- ARGV[4] stall_ms       ARGV[5] hold_ms         ARGV[6] interval_ms
-- ARGV[7] how many entries this consumer has room for, 0 to only keep the mark
-- Returns {paused, more, deleted, {{id, fields, deliveries}, ...}}:
--   paused   1 while an operator has set `paused` in the state
--   more     1 when the pass has not wrapped yet
--   deleted  pending entries whose stream entry was gone; XAUTOCLAIM dropped them
--
-- One step, because the decision to claim is only as good as the mark it was
-- taken from. After a freeze, a restart or a leap of the clock every lease looks
-- expired at once while its owner may be reconnecting: the mark is then missing,
-- in the future or older than stall_ms, and for hold_ms nobody claims anything but
-- what its owner has put back.

-- XAUTOCLAIM looks at ten entries for each that it may claim. So many in one step
-- keep a long pending list moving, and block Redis for about a millisecond.
local LOOKS_PER_CLAIM = 10
local MAX_LOOKS = 1000

local now = math.floor(now_us() / 1000)
local lease, stall, hold = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local interval, room = tonumber(ARGV[6]), tonumber(ARGV[7])

local state = redis.call('HMGET', KEYS[2],
  'reclaim_seen_ms', 'reclaim_hold_ms', 'reclaim_cursor', 'reclaim_pass_ms', 'paused')
local seen, hold_until = tonumber(state[1]), tonumber(state[2]) or 0
local cursor, pass = state[3] or '0-0', tonumber(state[4]) or 0
local paused = (state[5] and state[5] ~= '' and state[5] ~= '0') and 1 or 0

if not seen or seen > now or now - seen > stall then
  hold_until = now + hold
elseif hold_until > now + hold then
  hold_until = now + hold
end
redis.call('HSET', KEYS[2], 'reclaim_seen_ms', now, 'reclaim_hold_ms', hold_until)

if paused == 1 or room <= 0 then
  return {paused, 0, 0, {}}
end
local min_idle = lease
if now < hold_until then
  min_idle = put_back_idle()
end

-- One pass an interval for the whole group, however many workers ask. Half of
-- the interval is allowed for, or a lone worker whose timer is a little early
-- would skip every other pass.
if cursor == '0-0' then
  if pass <= now and now - pass < interval / 2 then
    return {paused, 0, 0, {}}
  end
  redis.call('HSET', KEYS[2], 'reclaim_pass_ms', now)
end

local claimed, deleted, looks = {}, 0, 0
repeat
  local count = math.min(room - #claimed, MAX_LOOKS / LOOKS_PER_CLAIM)
  local reply = redis.pcall('XAUTOCLAIM', KEYS[1], ARGV[1], ARGV[2], min_idle, cursor,
    'COUNT', count)
  if reply.err then
    -- What the hash holds may be no cursor: somebody else wrote it.
    reply = redis.call('XAUTOCLAIM', KEYS[1], ARGV[1], ARGV[2], min_idle, '0-0', 'COUNT', count)
  end
  cursor = reply[1]
  deleted = deleted + #reply[3]
  for _, entry in ipairs(reply[2]) do
    local pending = redis.call('XPENDING', KEYS[1], ARGV[1], entry[1], entry[1], 1)
    claimed[#claimed + 1] = {entry[1], entry[2], pending[1][4]}
  end
  looks = looks + count * LOOKS_PER_CLAIM
until cursor == '0-0' or #claimed >= room or looks >= MAX_LOOKS
redis.call('HSET', KEYS[2], 'reclaim_cursor', cursor)

return {paused, cursor == '0-0' and 0 or 1, deleted, claimed}
