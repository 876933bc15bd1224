-- Saves a session that was read, unless it is no longer what the writer read.
--
-- KEYS[1]  the session
-- KEYS[2]  where the value to write waits, if ARGV[1] is empty
-- ARGV[1]  the value to write
-- ARGV[2]  what the session must end with: the version that was read, or all of a value that had none
-- ARGV[3]  where that begins, as GETRANGE counts
-- ARGV[4]  'EX' and
-- ARGV[5]  the life time in seconds; neither for none
--
-- Nothing but the new value passes through Lua, and of a large one not even that: turning what is stored into a Lua
-- string is most of what a script costs. Numbers are written as strings, because Redis 7.0 takes 1 µs to make one of a number.
--
-- Returns 1 when saved, 0 when there is no session to save into, and else what somebody wrote meanwhile, or 2 where that
-- is large. (The writer finds its own version in there if its reply was lost and it sent the same save again.)

local call, key = redis.call, KEYS[1]
local tail = call('GETRANGE', key, ARGV[3], '-1')
if tail ~= ARGV[2] or tail == '' then -- of a missing session the tail is empty as well
  local verdict = call('STRLEN', key) > 16384 and 2 or call('GET', key) or 0
  if verdict ~= '' or ARGV[2] ~= '' then
    if KEYS[2] then
      call('DEL', KEYS[2])
    end
    return verdict
  end
end
if not KEYS[2] then
  call('SET', key, ARGV[1], unpack(ARGV, 4))
  return 1
end
local moved = redis.pcall('RENAME', KEYS[2], key)
if moved.err then
  return redis.error_reply('TRYAGAIN the value to save was not there: ' .. moved.err)
end
if ARGV[5] then
  call('EXPIRE', key, ARGV[5])
else
  call('PERSIST', key)
end
return 1
