-- Stands before `reclaim.lua`: mends what would keep entries from ever being claimed. Each
-- look mends one page. All workers share the cursors, which are in the state hash.

-- Pages of these sizes block Redis for about a millisecond.
local DELIVERIES_A_PAGE = 1000
local GAPS_A_PAGE = 200
local STRANDED_A_PAGE = 500
-- One command returns the bodies of so many stranded entries, as long as they are small.
local STRANDED_A_COMMAND = 10
local SMALL_BYTES = 10000
-- One look reads about so many bytes of stranded entries.
local STRANDED_BYTES = 1024 * 1024

-- A cursor of the state hash. A text that is no entry id was written by somebody else.
local function cursor_of(queue, text)
  if not text or redis.pcall('XPENDING', queue.stream, queue.group, text, text, 1).err then
    return '0-0'
  end
  return text
end

-- XCLAIM of several entries, which counts no delivery. Returns how many of them are still in
-- the stream. The others are dropped from the pending list.
local function claim_ids(queue, owner, ids, ...)
  local command = {'XCLAIM', queue.stream, queue.group, owner, 0}
  for _, id in ipairs(ids) do
    command[#command + 1] = id
  end
  for _, option in ipairs({...}) do
    command[#command + 1] = option
  end
  command[#command + 1] = 'JUSTID'
  return #redis.call(unpack(command))
end

-- After the clock has gone back, the time of an entry's delivery may lie in the future. Such
-- an entry would be idle for 0 ms until that time comes. It counts as delivered now, to the
-- same owner. Returns whether there are more pages, and how many entries had left the stream.
local function reset_future_deliveries(queue, now, clock_went_back)
  local cursor = redis.call('HGET', queue.state, 'reset_cursor')
  if clock_went_back then
    cursor = '0-0'
  elseif not cursor then
    return false, 0
  end
  local rows = redis.call('XPENDING', queue.stream, queue.group, cursor_of(queue, cursor), '+',
    DELIVERIES_A_PAGE + 1)
  local ids_of = {}
  for i = 1, math.min(#rows, DELIVERIES_A_PAGE) do
    local id, owner, idle = rows[i][1], rows[i][2], rows[i][3]
    if idle == 0 then
      ids_of[owner] = ids_of[owner] or {}
      table.insert(ids_of[owner], id)
    end
  end
  local deleted = 0
  for owner, ids in pairs(ids_of) do
    deleted = deleted + #ids - claim_ids(queue, owner, ids, 'TIME', now)
  end
  local next_row = rows[DELIVERIES_A_PAGE + 1]
  if next_row then
    redis.call('HSET', queue.state, 'reset_cursor', next_row[1])
  else
    redis.call('HDEL', queue.state, 'reset_cursor')
  end
  return next_row ~= nil, deleted
end

-- What XINFO says of the group: how many entries are pending, its lag (false when Redis
-- cannot tell), and the id up to which it has read.
local function group_info(queue)
  for _, flat in ipairs(redis.call('XINFO', 'GROUPS', queue.stream)) do
    local info = {}
    for i = 1, #flat, 2 do
      info[flat[i]] = flat[i + 1]
    end
    if info.name == queue.group then
      return info
    end
  end
end

-- Puts back the entries between two ids, without these two. Nobody has them pending. Returns
-- how many they are, and the last of them when there may be more.
local function put_back_between(queue, from, to)
  local found, bytes, count = 0, 0, 1
  repeat
    local entries = redis.call('XRANGE', queue.stream, '(' .. from, to, 'COUNT', count)
    local ids, before = {}, bytes
    for i, entry in ipairs(entries) do
      ids[i] = entry[1]
      bytes = bytes + size(entry[2])
    end
    if #ids > 0 then
      claim_ids(queue, queue.me, ids, 'TIME', 1, 'RETRYCOUNT', 0, 'FORCE')
      from = ids[#ids]
    end
    found = found + #ids
    if #ids < count then
      return found, nil
    end
    count = bytes - before < SMALL_BYTES and STRANDED_A_COMMAND or 1
  until found >= STRANDED_A_PAGE or bytes > STRANDED_BYTES
  return found, from
end

-- Finds stranded entries: the group has read them, and nobody has them pending. An operator's
-- DELCONSUMER or SETID leaves them behind, and no command would ever deliver them again. They
-- are put back, so that the next claim brings them. The bodies of pending entries are not
-- read. Returns whether the next look should go on at once, and how many were found.
local function find_stranded(queue, now, interval)
  local fields = redis.call('HMGET', queue.state, 'stranded_cursor', 'stranded_next_ms')
  local next_ms = tonumber(fields[2]) or 0
  if now < next_ms and next_ms <= now + interval then
    return false, 0
  end
  local group = group_info(queue)
  local read_up_to = group['last-delivered-id']
  local after = cursor_of(queue, fields[1])
  local rows = redis.call('XPENDING', queue.stream, queue.group, '(' .. after, read_up_to, GAPS_A_PAGE)
  local total, stopped_at = 0, nil
  for i = 1, #rows + 1 do
    local row = rows[i]
    if not row and #rows == GAPS_A_PAGE then
      stopped_at = after
      break
    end
    local found, last = put_back_between(queue, after, row and '(' .. row[1] or read_up_to)
    total = total + found
    if last or total >= STRANDED_A_PAGE then
      stopped_at = last or (row and row[1]) or after
      break
    end
    after = row and row[1]
  end
  -- Where Redis knows the lag, this is exactly how many are stranded.
  local missing = group.lag and redis.call('XLEN', queue.stream) - group.pending - group.lag or 0
  local again = total > 0 or (stopped_at ~= nil and missing > 0)
  redis.call('HSET', queue.state, 'stranded_cursor', stopped_at or '0-0',
    'stranded_next_ms', again and now or now + interval)
  return again, total
end

