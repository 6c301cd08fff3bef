#!lua flags=allow-oom
-- Stands before the other scripts. Its flag lets them run while Redis' memory is full:
-- workers must be able to drain the queue then.

-- Redis' clock, in microseconds.
local function now_us()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

-- An entry that is put back gets a time of delivery at the beginning of 1970. This is how
-- long such an entry has been idle, in ms. No lease that ran out is as old, even after the
-- clock has leapt.
local function put_back_idle()
  return math.floor(now_us() / 1000) - 1000
end

-- The fence: whether the entry is pending for this consumer.
local function owns(stream, group, consumer, id)
  return #redis.call('XPENDING', stream, group, id, id, 1, consumer) == 1
end

-- A script is not rolled back. So before the first write it must know what Redis would
-- refuse: a key of another type than `kind`, or a command that an ACL forbids.
-- Returns the error to answer with, or nil.
local function refusal(key, kind, commands)
  local found = redis.call('TYPE', key).ok
  if found ~= kind and found ~= 'none' then
    return redis.error_reply('WRONGTYPE ' .. key .. ' is a ' .. found .. ', expected a ' .. kind)
  end
  for _, command in ipairs(commands) do
    if not redis.acl_check_cmd(unpack(command)) then
      local name, place = string.lower(command[1]), command[2]
      if name == 'xgroup' or name == 'xinfo' then
        name, place = name .. '|' .. string.lower(command[2]), command[3]
      end
      return redis.error_reply('NOPERM this user has no permissions to run ' .. name .. ' on ' .. place)
    end
  end
end

-- The consumer that marks the stream. Nobody reads under this name.
local function mark_of(incarnation)
  return 'incarnation:' .. incarnation
end

-- A Redis that lost its data, and whose clock is behind, gives the same ids again, to other
-- entries. So does a stream that an operator has renamed and renamed back. So each group has
-- a mark, which stays with the group wherever it goes: a consumer that nobody else creates.
-- Returns an error when the group is not the one that the caller has read from, or nil.
--
-- Of the commands that tell whether a consumer exists this is the only one that does not
-- list all of them.
local function replaced(stream, group, incarnation)
  -- Without this permission a mark that was created here would stay, and pass for the right one.
  if not redis.acl_check_cmd('XGROUP', 'DELCONSUMER', stream, group, mark_of(incarnation)) then
    return redis.error_reply('NOPERM this user has no permissions to run xgroup|delconsumer on ' .. stream)
  end
  local created = redis.pcall('XGROUP', 'CREATECONSUMER', stream, group, mark_of(incarnation))
  if type(created) == 'table' then
    -- XPENDING says in one way that the stream or the group is missing, and XGROUP in two.
    local missing = redis.pcall('XPENDING', stream, group)
    return missing.err and missing or created
  end
  if created == 1 then
    redis.call('XGROUP', 'DELCONSUMER', stream, group, mark_of(incarnation))
    return redis.error_reply('INCARNATION the stream is not the one that was read')
  end
end

-- How many bytes the names and values of an entry's fields have. They stand in turn.
local function size(fields)
  local bytes = 0
  for _, text in ipairs(fields) do
    bytes = bytes + #text
  end
  return bytes
end

