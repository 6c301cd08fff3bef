-- Pauses a queue, or lets it go on.
--
-- KEYS[1] state
-- ARGV[1] 1 to pause it, 0 to let it go on   ARGV[2...] the values of `paused` that do not pause a queue
-- Returns 1 when that changed anything, else 0.
--
-- One step, so that of two who pause it at once only one is told that it changed something.

local refused = refusal(KEYS[1], 'hash', {{'HSET', KEYS[1], 'paused', '1'}, {'HDEL', KEYS[1], 'paused'}})
if refused then
  return refused
end

local value = redis.call('HGET', KEYS[1], 'paused')
local is_paused = value and true or false
for i = 2, #ARGV do
  if value and string.lower(value) == ARGV[i] then
    is_paused = false
  end
end
if ARGV[1] == '1' and not is_paused then
  redis.call('HSET', KEYS[1], 'paused', '1')
elseif ARGV[1] == '0' then
  redis.call('HDEL', KEYS[1], 'paused')
end
return is_paused == (ARGV[1] == '1') and 0 or 1
