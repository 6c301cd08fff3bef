-- Cancels jobs in the stream: deletes those that wait, and tells the workers of those that run.
--
-- KEYS[1] stream   KEYS[2] cancel
-- ARGV[1] group    ARGV[2] how many bytes of a value its SHA-1 is made of, at most
-- ARGV[3...] pairs: entry id, SHA-1 of the value of its first field, in hex
-- Returns {{outcome, consumer}, ...}:
--   outcome   0 nothing: there is no such entry any more, or it has another job
--             1 deleted: no worker had it
--             2 its worker is to end it. `consumer` says which worker that is.
--             3 the same, and its worker was told before
--
-- One step, because between a look and a deletion a worker may take the job. An entry that was put back
-- is pending, and yet it waits.

local refused = refusal(KEYS[1], 'stream', {
  {'XACK', KEYS[1], ARGV[1], '0-1'}, {'XDEL', KEYS[1], '0-1'},
  {'XGROUP', 'SETID', KEYS[1], ARGV[1], '0-1', 'ENTRIESREAD', '1'}, {'XINFO', 'GROUPS', KEYS[1]},
}) or refusal(KEYS[2], 'hash', {{'HSETNX', KEYS[2], '0-1', '1'}, {'HDEL', KEYS[2], '0-1'}})
if refused then
  return refused
end

-- What XINFO tells, by its names.
local function named(flat)
  local info = {}
  for i = 1, #flat, 2 do
    info[flat[i]] = flat[i + 1]
  end
  return info
end

-- The group, or nil when nobody has made it.
local function group_of()
  local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])
  if groups.err then
    if not string.find(groups.err, 'no such key', 1, true) then
      error(groups)
    end
    return nil
  end
  for _, flat in ipairs(groups) do
    local group = named(flat)
    if group.name == ARGV[1] then
      return group
    end
  end
end

-- Entries that are deleted before the group reads them would count in its lag for ever. So they count as
-- read. When Redis does not know how many entries the group has read, it finds out by itself later.
local function repair_lag(group, deleted)
  local read = group['entries-read']
  if read then
    redis.call('XGROUP', 'SETID', KEYS[1], ARGV[1], group['last-delivered-id'], 'ENTRIESREAD', read + deleted)
  end
end

local group = group_of()

-- Whether the group has not read an entry yet.
local function is_unread(id)
  local ms, seq = string.match(id, '(%d+)-(%d+)')
  local read_ms, read_seq = string.match(group['last-delivered-id'], '(%d+)-(%d+)')
  if ms ~= read_ms then
    return tonumber(ms) > tonumber(read_ms)
  end
  return tonumber(seq) > tonumber(read_seq)
end

local now = math.floor(now_us() / 1000)
local outcomes, deleted_unread = {}, 0
for i = 3, #ARGV, 2 do
  local id = ARGV[i]
  local entry = redis.call('XRANGE', KEYS[1], id, id)[1]
  local value = entry and entry[2][2]
  local outcome, consumer = 0, ''
  if value and redis.sha1hex(string.sub(value, 1, ARGV[2])) == ARGV[i + 1] then
    local row = group and redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1)[1]
    if row and row[3] <= put_back_idle() then
      outcome = redis.call('HSETNX', KEYS[2], id, now) == 1 and 2 or 3
      consumer = row[2]
    else
      outcome = 1
      if row then
        redis.call('XACK', KEYS[1], ARGV[1], id)
      end
      redis.call('XDEL', KEYS[1], id)
      redis.call('HDEL', KEYS[2], id)
      if group and is_unread(id) then
        deleted_unread = deleted_unread + 1
      end
    end
  end
  outcomes[#outcomes + 1] = {outcome, consumer}
end
if deleted_unread > 0 then
  repair_lag(group, deleted_unread)
end
return outcomes
