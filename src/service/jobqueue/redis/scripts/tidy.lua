-- Drops what nobody asks for any more: cancels whose entry is gone, and the counts of old days and minutes.
--
-- KEYS[1] stream   KEYS[2] cancel   KEYS[3] totals
-- ARGV[1] group    ARGV[2] for how many days counts are kept
--
-- Each call looks at a bounded number of cancels. Nothing depends on this, so what Redis refuses here is
-- left for another time.

local CANCELS = 100

local cancels = redis.pcall('HRANDFIELD', KEYS[2], CANCELS)
for _, id in ipairs(cancels.err and {} or cancels) do
  -- An entry that is pending for nobody, because an operator deleted its consumer, will be delivered
  -- again. So its cancel is kept for as long as the entry is there. Most are pending, and then no job is read.
  local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1], id, id, 1)
  if pending.err or #pending == 0 then
    local entry = redis.pcall('XRANGE', KEYS[1], id, id)
    if not entry.err and #entry == 0 then
      redis.pcall('HDEL', KEYS[2], id)
    end
  end
end

local seconds = redis.call('TIME')[1]
local first_day = math.floor(seconds / 86400) - tonumber(ARGV[2])
local first_minute = math.floor(seconds / 60) - 2
local totals = redis.pcall('HKEYS', KEYS[3])
for _, field in ipairs(totals.err and {} or totals) do
  local day = tonumber(string.match(field, ':(%d+)$'))
  local minute = tonumber(string.match(field, '^completed@(%d+)$'))
  if (day and day < first_day) or (minute and minute < first_minute) then
    redis.pcall('HDEL', KEYS[3], field)
  end
end
