-- save.lua as it was before it was made cheaper, to compare with.
--
-- Saves a session that was read, unless it is no longer what the writer read.
--
-- KEYS[1]  the session
-- KEYS[2]  where the value to write waits, if ARGV[1] is empty
-- ARGV[1]  the value to write
-- ARGV[2]  its life time in seconds, 0 for none
-- ARGV[3]  what the session must end with: the version that was read, or all of a value that had none
-- ARGV[4]  where that begins, as GETRANGE counts
--
-- Nothing but the new value passes through Lua, and of a large one not even that: turning what is stored into a Lua
-- string is most of what a script costs.
--
-- Returns 1 when saved, 0 when there is no session to save into, and else what somebody wrote meanwhile, or 2 where that
-- is large. (The writer finds its own version in there if its reply was lost and it sent the same save again.)

local tail = redis.call('GETRANGE', KEYS[1], ARGV[4], -1)
if tail ~= ARGV[3] or tail == '' then -- of a missing session the tail is empty as well
  local verdict = 0
  if redis.call('STRLEN', KEYS[1]) > 16384 then
    verdict = 2
  else
    verdict = redis.call('GET', KEYS[1]) or 0
  end
  if verdict ~= '' or ARGV[3] ~= '' then
    if KEYS[2] then
      redis.call('DEL', KEYS[2])
    end
    return verdict
  end
end
if KEYS[2] then
  if redis.call('EXISTS', KEYS[2]) == 0 then
    return redis.error_reply('TRYAGAIN the value to save has expired before it was saved')
  end
  redis.call('RENAME', KEYS[2], KEYS[1])
  if ARGV[2] == '0' then
    redis.call('PERSIST', KEYS[1])
  else
    redis.call('EXPIRE', KEYS[1], ARGV[2])
  end
elseif ARGV[2] == '0' then
  redis.call('SET', KEYS[1], ARGV[1])
else
  redis.call('SETEX', KEYS[1], ARGV[2], ARGV[1])
end
return 1
