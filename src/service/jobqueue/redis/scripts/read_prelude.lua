#!lua flags=no-writes,allow-oom
-- Stands before the scripts that only look. With its flags they run for a user who may not write, and
-- while Redis' memory is full.

-- Redis' clock, in ms.
local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- The error to answer with when a key is of another type than `kind`, or nil.
local function wrong(key, kind)
  local found = redis.call('TYPE', key).ok
  if found ~= kind and found ~= 'none' then
    return redis.error_reply('WRONGTYPE ' .. key .. ' is a ' .. found .. ', expected a ' .. kind)
  end
end

-- What XINFO says of the group, or nil when there is no stream or no group yet.
local function group_info(stream, name)
  local groups = redis.pcall('XINFO', 'GROUPS', stream)
  if groups.err then
    if not string.find(groups.err, 'no such key', 1, true) then
      error(groups)
    end
    return nil
  end
  for _, flat in ipairs(groups) do
    local info = {}
    for i = 1, #flat, 2 do
      info[flat[i]] = flat[i + 1]
    end
    if info.name == name then
      return info
    end
  end
end

-- About how many bytes of work a text costs beside its own.
local TEXT_COST = 64

-- About how many bytes of work these texts cost.
local function cost(texts)
  local bytes = TEXT_COST
  for _, text in ipairs(texts) do
    bytes = bytes + #text + TEXT_COST
  end
  return bytes
end

-- So many names and values of one entry are shown.
local MOST_TEXTS = 200

-- The texts as they are shown: each with `most` bytes at most.
local function shown(texts, most)
  local cut = {}
  for i = 1, math.min(#texts, MOST_TEXTS) do
    cut[i] = #texts[i] > most and string.sub(texts[i], 1, most) or texts[i]
  end
  return cut
end

-- Whether one of the texts has one of the arguments from the `from`th on in it. Without such
-- arguments all texts match.
local function matches(texts, from)
  if not ARGV[from] then
    return true
  end
  for _, text in ipairs(texts) do
    for i = from, #ARGV do
      if string.find(text, ARGV[i], 1, true) then
        return true
      end
    end
  end
  return false
end

-- One command reads so many entries at most. It does not say beforehand how large they are, so after
-- large ones they are read one by one.
local MOST_TOGETHER = 16
local LARGE = 64 * 1024

-- How many the next command reads, when the last one has read `count` with these bytes.
local function next_count(count, bytes)
  return bytes < LARGE and math.min(2 * count, MOST_TOGETHER) or 1
end

