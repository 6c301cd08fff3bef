-- Moves entries that this consumer owns to the dead letters.
--
-- KEYS[1] stream   KEYS[2] dead letters   KEYS[3] cancel
-- ARGV[1] group    ARGV[2] this consumer   ARGV[3] incarnation
-- ARGV[4] how many dead letters are kept
-- ARGV[5...] sixes: entry id, reason, error, attempt, deliveries, and the time in ms from
--   which on the job has expired ('' when that is not why it is buried)
-- Returns {{outcome, ...}, dropped}: how many of the oldest dead letters made room, and
--   outcome    1 buried
--              0 not buried: it is not owned any more
--              2 it has not expired yet: it is left where it is, to be run
--              3 it has not expired yet, and somebody wants it cancelled: it is left where it is, to be
--              buried for that
--
-- One step, so that the dead letter is there before the job leaves the stream, and a worker
-- that lost its lease buries nothing. Redis' clock decides what has expired. Redis copies what the
-- entry holds. So no line has to carry it, and an entry that is too large to be read can be buried.

local refused = replaced(KEYS[1], ARGV[1], ARGV[3]) or refusal(KEYS[2], 'stream', {
  {'XADD', KEYS[2], '*', 'job', ''}, {'XTRIM', KEYS[2], 'MAXLEN', '1'},
  {'XACK', KEYS[1], ARGV[1], '0-1'}, {'XDEL', KEYS[1], '0-1'},
})
if refused then
  return refused
end

-- So many fields of a foreign entry become a field of the dead letter each. Lua passes no
-- more than about 8,000 arguments to a command, so the other fields are kept together.
local MAX_FIELDS = 1000
-- About so many bytes are kept together in one value. No client takes more than 512 MB.
local MAX_TOGETHER = 64 * 1024 * 1024

-- Appends the fields from the `from`th string on to the dead letter, in `entries`, or in
-- `entries.1`, `entries.2`, ... They are written as netstrings, such as `5:field,3:val,`,
-- which hold any bytes and add little to them.
local function append_together(letter, fields, from)
  local values, parts, bytes = {}, {}, 0
  local function finish()
    if #parts > 0 then
      values[#values + 1] = table.concat(parts)
      parts, bytes = {}, 0
    end
  end
  for i = from, #fields, 2 do
    local name, value = fields[i], fields[i + 1]
    if bytes + #name + #value > MAX_TOGETHER then
      finish()
    end
    for _, text in ipairs({name, value}) do
      parts[#parts + 1] = #text .. ':'
      parts[#parts + 1] = text
      parts[#parts + 1] = ','
    end
    bytes = bytes + #name + #value
  end
  finish()
  for i, value in ipairs(values) do
    letter[#letter + 1] = #values == 1 and 'entries' or 'entries.' .. i
    letter[#letter + 1] = value
  end
end

-- The first fields of the dead letter: what the entry holds.
local function carried(fields)
  if #fields == 2 and fields[1] == 'job' then
    return fields
  end
  local letter = {}
  local own = math.min(#fields, 2 * MAX_FIELDS)
  for i = 1, own, 2 do
    letter[i] = 'entry.' .. fields[i]
    letter[i + 1] = fields[i + 1]
  end
  append_together(letter, fields, own + 1)
  return letter
end

local NAMES = {'reason', 'error', 'attempt', 'deliveries'}

local now = math.floor(now_us() / 1000)
local outcomes = {}
for i = 5, #ARGV, 6 do
  local id, outcome = ARGV[i], 0
  if owns(KEYS[1], ARGV[1], ARGV[2], id) then
    outcome = 1
    if now < (tonumber(ARGV[i + 5]) or 0) then
      local cancelled = redis.pcall('HEXISTS', KEYS[3], id)
      outcome = cancelled == 1 and 3 or 2
    end
  end
  outcomes[#outcomes + 1] = outcome
  if outcome == 1 then
    local entry = redis.call('XRANGE', KEYS[1], id, id)[1]
    -- Somebody may have deleted the entry. Then there is nothing left to keep.
    if entry then
      local letter = carried(entry[2])
      for k, name in ipairs(NAMES) do
        letter[#letter + 1] = name
        letter[#letter + 1] = ARGV[i + k]
      end
      letter[#letter + 1] = 'died_from'
      letter[#letter + 1] = id
      redis.call('XADD', KEYS[2], '*', unpack(letter))
    end
    redis.call('XACK', KEYS[1], ARGV[1], id)
    redis.call('XDEL', KEYS[1], id)
  end
end

return {outcomes, redis.call('XTRIM', KEYS[2], 'MAXLEN', ARGV[4])}
