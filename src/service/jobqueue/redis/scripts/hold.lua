-- Stands before `reclaim.lua`: how long an entry must have been idle before it may be
-- claimed. That depends on its owner's lease, and on whether the owner could renew it.
--
-- When Redis or all workers stand still, leases run out that nobody could renew. Such a
-- stall shows as a gap between two looks, whoever looks. A worker whose looks are always
-- that far apart sees nothing unusual in a gap.
--
-- A gap that is not usual begins a hold: nobody claims anything but what was put back.
-- For example, with a stall of 6 s and looks at 0, 1, 2 and 9 s, the gap of 7 s begins one.
-- The hold ends after its length. A gap within the hold is added to it, because Redis may
-- not have been there. Stalls that follow each other make it no longer than MAX_HOLDS holds.
-- A usual gap begins no hold: otherwise the holds of a slow worker would never end. After a
-- usual gap only those leases count as over that had run out before the gap.

local MAX_HOLDS = 10

local Hold = {}
Hold.__index = Hold

-- `looker` has the times of the worker that looks: lease, stall, usual, hold and reconnect,
-- in ms. `shortest` and `longest` are the shortest and the longest lease of all known workers.
function Hold.load(state, now, looker, shortest, longest)
  local fields = redis.call('HMGET', state, 'reclaim_seen_ms', 'reclaim_hold_ms',
    'reclaim_hold_length_ms', 'reclaim_held_since_ms', 'reclaim_gap_from_ms', 'reclaim_gap_to_ms')
  local self = setmetatable({state = state, now = now, looker = looker}, Hold)
  self.seen = tonumber(fields[1])
  self.longest_length = self:length_for(longest)
  self.length = tonumber(fields[3]) or self.longest_length
  self.shortest_stall = self:stall_for(shortest)
  -- A time in the future was written before the clock went back.
  self.ends = math.min(tonumber(fields[2]) or 0, now + math.max(self.length, self.longest_length))
  self.since = math.min(tonumber(fields[4]) or now, now)
  if self.ends - self.since > 2 * MAX_HOLDS * looker.hold then
    -- A worker of an older version began the hold, and did not say when.
    self.since = now
  end
  self.gap_from, self.gap_to = tonumber(fields[5]) or 0, tonumber(fields[6]) or 0
  if self.gap_to > now then
    self.gap_from, self.gap_to = 0, 0
  end
  return self
end

-- How long a worker with this lease may need to renew what it holds. Its heartbeat is less
-- than half its lease.
function Hold:length_for(lease)
  local looker = self.looker
  return lease == looker.lease and looker.hold or looker.reconnect + math.ceil(lease / 2)
end

-- The longest gap that cannot age a renewed lease of this length to its end.
function Hold:stall_for(lease)
  return self.looker.stall * lease / self.looker.lease
end

-- Whether the clock has gone back, or nobody knows.
function Hold:clock_went_back()
  return not self.seen or self.seen > self.now
end

-- Judges the gap since the last look, and leaves the mark of this one.
function Hold:look()
  local now, gap = self.now, self.seen and self.now - self.seen
  if self:clock_went_back() then
    redis.call('HSET', self.state, 'reclaim_stall_ms', now)
    self.since, self.ends, self.length = now, now + self.longest_length, self.longest_length
  elseif gap > math.max(self.shortest_stall, self.looker.usual) then
    self:stalled(gap)
  elseif gap > self.shortest_stall then
    self.gap_from, self.gap_to = self.seen, now
  end
  redis.call('HSET', self.state, 'reclaim_seen_ms', now, 'reclaim_hold_ms', self.ends,
    'reclaim_hold_length_ms', self.length, 'reclaim_held_since_ms', self.since,
    'reclaim_gap_from_ms', self.gap_from, 'reclaim_gap_to_ms', self.gap_to)
end

function Hold:stalled(gap)
  local now = self.now
  redis.call('HSET', self.state, 'reclaim_stall_ms', now)
  if self.seen >= self.ends then
    self.since = now
  end
  if now - self.since > MAX_HOLDS * self.looker.hold then
    self.ends = now
    self.gap_from, self.gap_to = self.seen, now
  elseif now < self.ends then
    self.ends = math.min(self.ends + gap, now + self.length)
  else
    self.ends, self.length = now + self.longest_length, self.longest_length
  end
end

-- By how much the hold has lasted longer than one hold, in ms.
function Hold:overdue()
  return self.now < self.ends and math.max(0, self.now - self.since - self.length) or 0
end

-- How long an entry whose owner has this lease must have been idle, in ms.
function Hold:min_idle(lease)
  local length = self:length_for(lease)
  -- An owner with a short lease needs less time to renew than one with a long lease.
  if self.now < self.ends - math.max(0, self.length - length) then
    return put_back_idle()
  end
  local doubtful = self.gap_to - self.gap_from > self:stall_for(lease)
  if doubtful and self.now < self.gap_to + length then
    return self.now - self.gap_from + lease
  end
  return lease
end

