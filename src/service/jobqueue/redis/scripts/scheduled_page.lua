-- Reads a part of the scheduled set in the order of due times, or searches it.
--
-- KEYS[1] scheduled
-- ARGV[1], ARGV[2] the place behind which it begins: the score of a member, and how the member
--   begins; the score is '' for the first one
-- ARGV[3] how many members it looks at, at most
-- ARGV[4] after about how many bytes of work it stops
-- ARGV[5] how many bytes of a member are shown
-- ARGV[6] how many bytes of the last member make a place
-- ARGV[7] 1 when the place is a whole member, 0 when it only is how one begins
-- ARGV[8...] texts: only members that have one of them are answered; without any, all
-- Returns {ended, score, beginning, looked, {{member, score}, ...}}:
--   ended     1 when there is nothing behind what it looked at
--   score, beginning   the place of the last member that it looked at, or two empty texts
--   looked    how many members it looked at
--
-- It goes by ranks. BYSCORE with an offset would walk past all members before the offset. And
-- members come and go between two calls, so the place is a member and no rank.

local refused = wrong(KEYS[1], 'zset')
if refused then
  return refused
end

local score, beginning = ARGV[1], ARGV[2]
local most, most_bytes = tonumber(ARGV[3]), tonumber(ARGV[4])
local most_shown, most_of_place = tonumber(ARGV[5]), tonumber(ARGV[6])

-- Whether the member comes behind the place, that is, behind all that begin like it. Lua's own comparison goes by the
-- language of the server, and Redis sorts members by their bytes.
local function is_behind(member)
  for i = 1, #beginning do
    local has, had = string.byte(member, i) or -1, string.byte(beginning, i)
    if has ~= had then
      return has > had
    end
  end
  return ARGV[7] == '1' and #member > #beginning
end

-- The rank of the first member behind the place.
local function first_rank()
  if score == '' then
    return 0
  end
  local low = redis.call('ZCOUNT', KEYS[1], '-inf', '(' .. score)
  local high = low + redis.call('ZCOUNT', KEYS[1], score, score)
  while low < high do
    local middle = math.floor((low + high) / 2)
    if is_behind(redis.call('ZRANGE', KEYS[1], middle, middle)[1]) then
      high = middle
    else
      low = middle + 1
    end
  end
  return low
end

local found, looked, bytes, count, last, ended = {}, 0, 0, 1, nil, false
local rank = first_rank()
repeat
  local asked = math.min(count, most - looked)
  local rows = redis.call('ZRANGE', KEYS[1], rank, rank + asked - 1, 'WITHSCORES')
  local before = bytes
  for i = 1, #rows, 2 do
    last, score = rows[i], rows[i + 1]
    bytes = bytes + #last + 2 * TEXT_COST
    if matches({last}, 8) then
      found[#found + 1] = {string.sub(last, 1, most_shown), score}
    end
  end
  looked = looked + #rows / 2
  ended = #rows / 2 < asked
  rank = rank + asked
  count = next_count(count, bytes - before)
until ended or looked >= most or bytes >= most_bytes
return {ended and 1 or 0, last and score or '', last and string.sub(last, 1, most_of_place) or '', looked, found}
