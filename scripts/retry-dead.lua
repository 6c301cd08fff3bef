#!lua
-- Runs dead letters again. Each becomes the job that it was, and gets all its attempts again.
--
--   redis-cli --eval scripts/retry-dead.lua 'jobqueue:{default}:dead' 'jobqueue:{default}' , ID...
--   redis-cli --eval scripts/retry-dead.lua 'jobqueue:{default}:dead' 'jobqueue:{default}' , all 100
--
-- KEYS[1] dead letters   KEYS[2] stream
-- ARGV[1...] the ids of dead letters, at most 1,000. When one of them cannot run again,
--   the error says which one and why, and nothing is changed.
-- or ARGV[1] `all`   ARGV[2] how many dead letters to look at (default 100, at most 1,000)
--   ARGV[3] look only at those after this id (default: begin with the oldest).
--   Dead letters that are no jobs stay.
-- Returns a line for each dead letter that runs again or stays. For `all` a last line says
--   how many dead letters are left.
--
-- One step, so that the job is in the stream before its dead letter is deleted, and nobody
-- runs the same dead letter twice. Redis does not undo a script that fails, so everything is
-- checked before the first write. The script has no flag allow-oom, so Redis refuses the
-- whole script when its memory is full. The JSON is edited as text, because cjson would turn
-- large integers into floats and [] into {}.

local MOST = 1000
-- One call looks at about so many bytes at most, because Redis does nothing else meanwhile.
local MOST_BYTES = 8 * 1024 * 1024
-- The largest job is MAX_JOB_BYTES in job.rs. The rest is for the fields that moves add to it.
local LARGEST_JOB = 256 * 1024 + 128

local function refuse(...)
  return redis.error_reply('ERR ' .. string.format(...) .. '; nothing was changed')
end

-- Decodes the JSON `text`. cjson refuses half of a surrogate pair, which JavaScript writes when
-- it has cut a text in two. Such a half is replaced first. Nothing here depends on it.
local function decoded(text)
  return cjson.decode((string.gsub(text, '\\u[dD][89a-fA-F]%x%x', '\\ufffd')))
end

-- Returns where the string that begins at `at` ends. The JSON must be well-formed.
local function string_end(json, at)
  repeat
    at = string.find(json, '["\\]', at + 1)
    local escape = string.sub(json, at, at) == '\\'
    if escape then
      at = at + 1
    end
  until not escape
  return at
end

-- Returns where the value that begins at `at` ends.
local function value_end(json, at)
  if not string.find(json, '^["%[{]', at) then
    return string.find(json, '[%s,}]', at) - 1
  end
  local depth = 0
  while true do
    local char = string.sub(json, at, at)
    if char == '"' then
      at = string_end(json, at)
    else
      depth = depth + ((char == '[' or char == '{') and 1 or -1)
    end
    if depth == 0 then
      return at
    end
    at = string.find(json, '["%[%]{}]', at + 1)
  end
end

-- Returns the members of the outer object, with their names and places. Members of objects
-- inside it are not in the list.
local function members(json)
  local found, at = {}, string.find(json, '{', 1, true) + 1
  while true do
    local from = string.find(json, '["}]', at)
    if string.sub(json, from, from) == '}' then
      return found
    end
    local name_end = string_end(json, from)
    local value = string.match(json, '^%s*:%s*()', name_end + 1)
    local to = value_end(json, value)
    -- A name may contain escapes.
    local name = decoded('[' .. string.sub(json, from, name_end) .. ']')[1]
    found[#found + 1] = {name = name, from = from, value = value, to = to}
    at = to + 1
  end
end

-- Returns the job as it starts again. It keeps its id. It loses the count of its attempts, the
-- time that it waited for a worker that knows its type, and a delay that is over. The rest
-- stays the same, byte for byte.
local function anew(json, died_from, now)
  local all = members(json)
  local parts, has_id = {}, false
  for i, member in ipairs(all) do
    local value = string.sub(json, member.value, member.to)
    local stays = member.name ~= 'attempt' and member.name ~= 'unknown_for_ms'
    if member.name == 'id' then
      stays = value ~= 'null'
      has_id = has_id or stays
    elseif member.name == 'delay_ms' then
      -- A job loses its delay when it has waited for it. This job still has one, so it died in
      -- its first entry. The id of that entry says when the job was registered.
      local registered = tonumber(string.match(died_from, '^%d+'))
      local delay = value == 'null' and 0 or tonumber(value)
      stays = not (registered and delay and registered + delay <= now)
    end
    if stays then
      if #parts > 0 then
        parts[#parts + 1] = string.sub(json, all[i - 1].to + 1, member.from - 1)
      end
      parts[#parts + 1] = string.sub(json, member.from, member.to)
    end
  end
  -- A job without its own id was known by the id of its entry.
  if not has_id and string.find(died_from, '^%d+%-%d+$') then
    table.insert(parts, 1, '"id":"' .. died_from .. '",')
  end
  local head, tail = string.sub(json, 1, all[1].from - 1), string.sub(json, all[#all].to + 1)
  return head .. table.concat(parts) .. tail
end

-- Returns the job in a dead letter's fields, or nil and why there is none.
local function job_of(fields, now)
  local field = {}
  for i = 1, #fields, 2 do
    field[fields[i]] = field[fields[i]] or fields[i + 1]
  end
  local json = field.job
  if not json then
    return nil, 'it was a foreign entry and no job: append a job made of its fields with XADD, then XDEL this'
  elseif #json > LARGEST_JOB then
    return nil, 'its job is larger than a job may be'
  elseif not string.find(json, '^%s*{') then
    return nil, 'its job is not a JSON object'
  end
  local is_json, job = pcall(decoded, json)
  if not is_json and string.find(job, 'nested', 1, true) then
    return nil, 'its job is nested too deep for this script'
  elseif not is_json then
    return nil, 'its job is not valid JSON'
  elseif type(job.type) ~= 'string' then
    return nil, 'its job has no type'
  end
  return anew(json, field.died_from or '', now)
end

local function bytes_of(fields)
  local bytes = 0
  for _, text in ipairs(fields) do
    bytes = bytes + #text
  end
  return bytes
end

local dead, stream = KEYS[1], KEYS[2]

local function move(id, job)
  local entry = redis.call('XADD', stream, '*', 'job', job)
  redis.call('XDEL', dead, id)
  return id .. ' runs again as entry ' .. entry
end

-- Runs the named dead letters again, either all of them or none.
local function retry_named(now)
  local ids, jobs = {}, {}
  for _, id in ipairs(ARGV) do
    if not string.find(id, '^%d+%-%d+$') then
      return refuse('expected ids of dead letters, such as 1764201600000-0, or all, found %s', id)
    end
    local found = redis.pcall('XRANGE', dead, id, id)
    if found.err or not found[1] then
      return refuse('there is no dead letter %s in %s', id, dead)
    end
    -- The id as Redis writes it, so that a dead letter that was named twice is recognised.
    id = found[1][1]
    local job, why = job_of(found[1][2], now)
    if not job then
      return refuse('dead letter %s cannot run again: %s', id, why)
    end
    if not jobs[id] then
      ids[#ids + 1] = id
      jobs[id] = job
    end
  end
  local lines = {}
  for i, id in ipairs(ids) do
    lines[i] = move(id, jobs[id])
  end
  return lines
end

-- Looks at the given number of dead letters, and runs those again that are jobs.
local function retry_all(now)
  local count, after = tonumber(ARGV[2] or 100), ARGV[3]
  if not count or count < 1 or count > MOST or count % 1 ~= 0 then
    return refuse('expected a number from 1 to %d after all, found %s', MOST, ARGV[2])
  elseif #ARGV > 3 or (after and not string.find(after, '^%d+%-%d+$')) then
    return refuse('expected no more than one id after the number, found %s', table.concat(ARGV, ' ', 3))
  end
  local lines, stay, bytes, looked = {}, 0, 0, 0
  while looked < count and bytes < MOST_BYTES do
    local found = redis.call('XRANGE', dead, after and '(' .. after or '-', '+', 'COUNT', 1)[1]
    if not found then
      break
    end
    after = found[1]
    looked = looked + 1
    bytes = bytes + bytes_of(found[2])
    local job, why = job_of(found[2], now)
    if job then
      lines[#lines + 1] = move(after, job)
    else
      stay = stay + 1
      lines[#lines + 1] = after .. ' stays: ' .. why
    end
  end
  local left = redis.call('XLEN', dead)
  local last = looked - stay .. ' run again, ' .. left .. ' dead letters are left'
  if after and #redis.call('XRANGE', dead, '(' .. after, '+', 'COUNT', 1) > 0 then
    last = last .. '; to go on: all ' .. count .. ' ' .. after
  end
  lines[#lines + 1] = last
  return lines
end

if #KEYS ~= 2 or KEYS[1] ~= KEYS[2] .. ':dead' or #ARGV < 1 or #ARGV > MOST then
  return refuse("expected 'jobqueue:{default}:dead' 'jobqueue:{default}' , and 1 to %d ids, or all; found %d keys and %d ids", MOST, #KEYS, #ARGV)
end
for _, key in ipairs(KEYS) do
  local kind = redis.call('TYPE', key).ok
  if kind ~= 'stream' and kind ~= 'none' then
    return refuse('%s is a %s, expected a stream', key, kind)
  end
end
for _, command in ipairs({{'XADD', stream, '*', 'job', ''}, {'XDEL', dead, '0-1'}}) do
  if not redis.acl_check_cmd(unpack(command)) then
    return refuse('this user has no permission to run %s on %s', command[1], command[2])
  end
end
local now = redis.call('TIME')[1] * 1000
if ARGV[1] == 'all' then
  return retry_all(now)
end
return retry_named(now)
