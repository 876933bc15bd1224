-- Saves a session that was read, unless it is no longer what the writer read.
--
-- KEYS[1]  the session
-- KEYS[2]  where the value to write waits, if it does not stand in ARGV[1]
-- ARGV[1]  the value to write
-- ARGV[2]  what the session must end with: the version that was read, or all of a value that had none
-- ARGV[3]  where that begins, as GETRANGE counts
-- ARGV[4]  'EX' and
-- ARGV[5]  the life time in seconds; neither for none, and 'keep' alone for what is left of it, without KEYS[2]
--
-- Nothing but the new value passes through Lua, and of a large one not even that: turning what is stored into a Lua
-- string is most of what a script costs. A number is written as a string, because of a number Redis 7.0 takes 1 µs to make one.
--
-- Returns 1 when saved, 0 when there is no session to save into, and else what somebody wrote meanwhile, or 2 where that
-- is large. (The writer finds its own version in there if its reply was lost and it sent the same save again.)

local tail = redis.call('GETRANGE', KEYS[1], ARGV[3], '-1')
if tail ~= ARGV[2] or tail == '' then -- of a missing session the tail is empty as well
  local found = redis.call('STRLEN', KEYS[1]) > 16384 and 2 or redis.call('GET', KEYS[1]) or 0
  if found ~= '' or ARGV[2] ~= '' then
    if KEYS[2] then
      redis.call('DEL', KEYS[2])
    end
    return found
  end
end
if not KEYS[2] then
  if ARGV[5] then
    redis.call('SETEX', KEYS[1], ARGV[5], ARGV[1]) -- with a word less than SET, which is 1 µs on Redis 7.0
    return 1
  end
  local left = ARGV[4] and redis.call('PTTL', KEYS[1]) or -1
  if left >= 0 then
    redis.call('SET', KEYS[1], ARGV[1], 'PX', math.max(left, 1))
  else
    redis.call('SET', KEYS[1], ARGV[1])
  end
  return 1
end
-- The life time first, which RENAME takes along: whatever fails, no session is left with a shorter one.
local waits
if ARGV[5] then
  waits = redis.call('EXPIRE', KEYS[2], ARGV[5])
else
  waits = redis.call('PERSIST', KEYS[2])
end
if waits == 0 then
  return redis.error_reply('NOVALUE the value has expired before it was saved')
end
local moved = redis.pcall('RENAME', KEYS[2], KEYS[1])
if moved.err then
  redis.call('DEL', KEYS[2])
  return moved
end
return 1
