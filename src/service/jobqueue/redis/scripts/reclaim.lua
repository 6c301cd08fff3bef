-- Takes over entries whose lease ran out, keeps the mark that tells a dead worker from a
-- stalled Redis, and mends what would keep entries from being claimed. `hold.lua` and
-- `mend.lua` stand before it.
--
-- KEYS[1] stream   KEYS[2] state   KEYS[3] leases
-- ARGV[1] group          ARGV[2] this consumer   ARGV[3] lease_ms
-- ARGV[4] stall_ms: during a longer gap between two looks a lease may have run out that
--   nobody could renew
-- ARGV[5] usual_ms: the longest gap that is usual for this consumer, 0 when that is unknown
-- ARGV[6] hold_ms        ARGV[7] reconnect_ms: the part of the hold that is not the heartbeat
-- ARGV[8] interval_ms
-- ARGV[9] how many entries this consumer has room for, 0 to only keep the mark
-- ARGV[10] max_bytes: how many bytes of bodies the reply may carry
-- Returns {paused, more, deleted, entries, unmended, stranded, overdue_ms, shortest, longest}:
--   paused    1 while an operator has set `paused` in the state
--   more      1 when the pass through the pending entries is not over yet
--   deleted   pending entries whose stream entry was gone; they were dropped
--   entries   {{id, fields or bytes, deliveries}, ...}: a single entry with more than
--             max_bytes comes as the number of its bytes, without its fields
--   unmended  1 when another look should go on mending at once
--   stranded  how many entries were found that nobody had pending
--   overdue_ms  by how much the time in which nobody claims has exceeded one hold
--   shortest, longest  the shortest and the longest lease of all known workers, in ms
--
-- One step, because the mark must not change between the look at it and the claim. After a
-- freeze, a restart or a leap of the clock every lease looks expired at once, although its
-- owner may be reconnecting.

-- XAUTOCLAIM looks at ten entries for each one that it may claim. So many looks in one step
-- get through a long pending list soon, and block Redis for about a millisecond.
local LOOKS_PER_CLAIM = 10
local MAX_LOOKS = 1000
-- The id before the last possible one: a read of what is pending after it finds nothing.
local BEHIND_ALL = '18446744073709551615-18446744073709551614'

local refused = refusal(KEYS[3], 'zset', {})
if refused then
  return refused
end

local now = math.floor(now_us() / 1000)
local queue = {stream = KEYS[1], state = KEYS[2], leases = KEYS[3], group = ARGV[1], me = ARGV[2]}
local looker = {lease = tonumber(ARGV[3]), stall = tonumber(ARGV[4]), usual = tonumber(ARGV[5]),
  hold = tonumber(ARGV[6]), reconnect = tonumber(ARGV[7])}
local interval, room, max_bytes = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])

-- Without these permissions the mark is kept all the same. Reads and heartbeats need the
-- permissions too, and their errors tell what is missing.
local exist = {'XREADGROUP', 'GROUP', queue.group, queue.me, 'COUNT', 1, 'STREAMS', queue.stream, BEHIND_ALL}
local may_exist = redis.acl_check_cmd(unpack(exist))
local may_claim = redis.acl_check_cmd('XCLAIM', queue.stream, queue.group, queue.me, 0, '0-1')

-- A look shows that this consumer lives, also while it reads nothing. Without this, Redis 7.0
-- would not list the consumer before its first delivery.
if may_exist then
  redis.call(unpack(exist))
end
if tonumber(redis.call('ZSCORE', queue.leases, queue.me)) ~= looker.lease then
  redis.call('ZADD', queue.leases, looker.lease, queue.me)
end
local shortest = tonumber(redis.call('ZRANGE', queue.leases, 0, 0, 'WITHSCORES')[2])
local longest = tonumber(redis.call('ZRANGE', queue.leases, -1, -1, 'WITHSCORES')[2])

local hold = Hold.load(queue.state, now, looker, shortest, longest)
local clock_went_back = hold:clock_went_back()
hold:look()

local unreset, deleted, unfound, stranded = false, 0, false, 0
if may_claim then
  unreset, deleted = reset_future_deliveries(queue, now, clock_went_back)
  unfound, stranded = find_stranded(queue, now, interval)
end

local state = redis.call('HMGET', queue.state, 'reclaim_cursor', 'reclaim_pass_ms', 'paused')
local cursor, pass = cursor_of(queue, state[1]), tonumber(state[2]) or 0
local NOT_PAUSED = {[''] = true, ['0'] = true, ['false'] = true, ['no'] = true, ['off'] = true}
local paused = state[3] and not NOT_PAUSED[string.lower(state[3])]

local entries, bytes_left = {}, max_bytes

-- Delivers an entry to this consumer, and counts the delivery. When the reply has no room
-- for the entry, it is put back, and this returns false.
local function deliver(id)
  local entry = redis.call('XCLAIM', queue.stream, queue.group, queue.me, 0, id)[1]
  if not entry then
    deleted = deleted + 1
    return true
  end
  local count = redis.call('XPENDING', queue.stream, queue.group, id, id, 1)[1][4]
  local bytes = size(entry[2])
  if bytes > bytes_left and (bytes <= max_bytes or #entries > 0) then
    claim_ids(queue, queue.me, {id}, 'TIME', 1, 'RETRYCOUNT', count - 1)
    return false
  end
  bytes_left = bytes_left - bytes
  entries[#entries + 1] = {id, bytes > max_bytes and bytes or entry[2], count}
  return true
end

-- Claims when all leases are equal: then XAUTOCLAIM finds those that ran out.
local function claim_expired(min_idle)
  local looks = 0
  repeat
    local count = math.min(room - #entries, MAX_LOOKS / LOOKS_PER_CLAIM)
    local reply = redis.call('XAUTOCLAIM', queue.stream, queue.group, queue.me, min_idle, cursor,
      'COUNT', count, 'JUSTID')
    local ids = reply[2]
    cursor, deleted = reply[1], deleted + #reply[3]
    for i, id in ipairs(ids) do
      if not deliver(id) then
        claim_ids(queue, queue.me, {unpack(ids, i)}, 'TIME', 1)
        cursor = id
        return
      end
    end
    looks = looks + count * LOOKS_PER_CLAIM
  until cursor == '0-0' or #entries >= room or looks >= MAX_LOOKS
end

-- Claims when leases differ: for each entry the lease of its owner counts. An owner that is
-- not known is given the longest lease.
local function claim_by_owner()
  local rows = redis.call('XPENDING', queue.stream, queue.group, cursor, '+', MAX_LOOKS + 1)
  local min_idle_of = {}
  for i, row in ipairs(rows) do
    local id, owner, idle = row[1], row[2], row[3]
    if not min_idle_of[owner] then
      min_idle_of[owner] = hold:min_idle(tonumber(redis.call('ZSCORE', queue.leases, owner)) or longest)
    end
    local full = i > MAX_LOOKS or #entries >= room
    if full or (idle >= min_idle_of[owner] and not deliver(id)) then
      cursor = id
      return
    end
  end
  cursor = '0-0'
end

local function claim()
  -- The whole group makes one pass in an interval, however many workers ask. A pass may come
  -- half an interval early: otherwise a lone worker whose timer is a little early would skip
  -- every other pass.
  if cursor == '0-0' then
    if pass <= now and now - pass < interval / 2 then
      return
    end
    redis.call('HSET', queue.state, 'reclaim_pass_ms', now)
  end
  if shortest == longest then
    claim_expired(hold:min_idle(longest))
  else
    claim_by_owner()
  end
  redis.call('HSET', queue.state, 'reclaim_cursor', cursor)
  return cursor ~= '0-0'
end

local more = may_claim and not paused and room > 0 and claim()
return {paused and 1 or 0, more and 1 or 0, deleted, entries, (unreset or unfound) and 1 or 0,
  stranded, hold:overdue(), shortest, longest}
