-- Reads a part of a stream, or searches it.
--
-- KEYS[1] stream
-- ARGV[1] XRANGE or XREVRANGE   ARGV[2] from   ARGV[3] to
-- ARGV[4] how many entries it looks at, at most
-- ARGV[5] after about how many bytes of work it stops
-- ARGV[6] how many bytes of a text are shown
-- ARGV[7...] texts: only entries that have one of them in a field are answered; without any, all
-- Returns {ended, last, looked, {{id, {field, value, ...}}, ...}}:
--   ended   1 when there is nothing behind what it looked at
--   last    the id of the last entry that it looked at, or ''
--   looked  how many entries it looked at
--
-- A script, because a command is not bounded in bytes, and because a search need not bring what
-- it does not look for.

local refused = wrong(KEYS[1], 'stream')
if refused then
  return refused
end

local command, from, to = ARGV[1], ARGV[2], ARGV[3]
local most, most_bytes, most_shown = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])

-- Whether nothing is before `from` when the newest come first. Redis does not see that: it would walk
-- through the whole stream to find nothing.
local first = command == 'XREVRANGE' and redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
local function is_before_all()
  local ms, seq = string.match(from, '^%((%d+)%-(%d+)$')
  if not first or not ms then
    return false
  end
  local first_ms, first_seq = string.match(first[1], '(%d+)-(%d+)')
  ms, seq, first_ms, first_seq = tonumber(ms), tonumber(seq), tonumber(first_ms), tonumber(first_seq)
  return ms < first_ms or (ms == first_ms and seq <= first_seq)
end

local found, looked, bytes, count, last, ended = {}, 0, 0, 1, '', false
repeat
  local asked = math.min(count, most - looked)
  local entries = is_before_all() and {} or redis.call(command, KEYS[1], from, to, 'COUNT', asked)
  local before = bytes
  for _, entry in ipairs(entries) do
    last = entry[1]
    bytes = bytes + cost(entry[2])
    if matches(entry[2], 7) then
      found[#found + 1] = {last, shown(entry[2], most_shown)}
    end
  end
  looked = looked + #entries
  ended = #entries < asked
  from = '(' .. last
  count = next_count(count, bytes - before)
until ended or looked >= most or bytes >= most_bytes
return {ended and 1 or 0, last, looked, found}
