-- Reads entries of the stream by their ids, with what is known of their delivery.
--
-- KEYS[1] stream   KEYS[2] cancel
-- ARGV[1] group    ARGV[2] after about how many bytes of work it stops
-- ARGV[3] how many bytes of a text are shown
-- ARGV[4...] entry ids
-- Returns {now_ms, read_up_to, looked, {{id, {field, value, ...}, consumer, idle_ms, deliveries, cancel}, ...}}:
--   read_up_to  the entry id up to which the group has read, or '' when there is no group
--   looked      how many of the ids it looked at; an entry that is not there any more is not answered
--   consumer    who has it, or '' when it is not pending
--   cancel      since when it is to be cancelled, or ''
--
-- One step, because an entry may be acknowledged between two commands.

local refused = wrong(KEYS[1], 'stream') or wrong(KEYS[2], 'hash')
if refused then
  return refused
end
local group = group_info(KEYS[1], ARGV[1])

local found, looked, bytes = {}, 0, 0
for i = 4, #ARGV do
  local id = ARGV[i]
  local entry = redis.call('XRANGE', KEYS[1], id, id)[1]
  looked = looked + 1
  bytes = bytes + TEXT_COST
  if entry then
    local row = group and redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1)[1] or {}
    bytes = bytes + cost(entry[2])
    found[#found + 1] = {entry[1], shown(entry[2], tonumber(ARGV[3])), row[2] or '', row[3] or 0, row[4] or 0,
      redis.call('HGET', KEYS[2], entry[1]) or ''}
  end
  if bytes >= tonumber(ARGV[2]) then
    break
  end
end
return {now_ms(), group and group['last-delivered-id'] or '', looked, found}
