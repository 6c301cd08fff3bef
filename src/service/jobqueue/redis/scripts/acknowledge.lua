-- Acknowledges and deletes entries whose jobs have finished.
--
-- KEYS[1] stream
-- ARGV[1] group    ARGV[2] incarnation   ARGV[3...] entry ids
-- Returns how many entries were still pending.
--
-- One step, because an entry that is acknowledged and not deleted would count as waiting
-- for ever. A script and not MULTI, because a Redis whose memory is full refuses to queue
-- commands in MULTI, and the workers could not drain it.

local refused = replaced(KEYS[1], ARGV[1], ARGV[2]) or refusal(KEYS[1], 'stream', {
  {'XDEL', KEYS[1], '0-1'}, {'XACK', KEYS[1], ARGV[1], '0-1'},
})
if refused then
  return refused
end

-- Redis has one command for both since 8.2. Before 8.2.3 many ids overflow its stack
-- (CVE-2025-62507). To ask for the permission of a command that a server does not have is an
-- error.
local XACKDEL_SINCE = 0x080203
local function may_xackdel()
  if (redis.REDIS_VERSION_NUM or 0) < XACKDEL_SINCE then
    return false
  end
  local known, allowed = pcall(redis.acl_check_cmd, 'XACKDEL', KEYS[1], ARGV[1], 'IDS', '1', '0-1')
  return known and allowed
end

if may_xackdel() then
  -- An entry that is not pending any more stays in the stream (-1). Its job ran as well.
  local answers = redis.call('XACKDEL', KEYS[1], ARGV[1], 'IDS', #ARGV - 2, unpack(ARGV, 3))
  local left = {}
  for i, answer in ipairs(answers) do
    if answer == -1 then
      left[#left + 1] = ARGV[i + 2]
    end
  end
  if #left > 0 then
    redis.call('XDEL', KEYS[1], unpack(left))
  end
  return #answers - #left
end

local acknowledged = redis.call('XACK', KEYS[1], ARGV[1], unpack(ARGV, 3))
redis.call('XDEL', KEYS[1], unpack(ARGV, 3))
return acknowledged
