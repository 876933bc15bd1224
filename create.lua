-- Creates a session, unless its id was destroyed since the writer looked.
--
-- KEYS[1]  the session
-- KEYS[2]  its tombstone; not given where the server cannot look at both
-- KEYS[3]  where the value to write waits, if ARGV[1] is empty
-- ARGV[1]  the value to write
-- ARGV[2]  its life time in seconds, 0 for none
-- ARGV[3]  the tombstone that the writer has seen, empty for none
--
-- Returns 1 when created, 0 where the id was destroyed, and else the session that somebody has created meanwhile, or 2
-- where that is large. (It is the writer's own if its reply was lost and it sent the same again.)

local tombstone = KEYS[2] and redis.call('GET', KEYS[2])
if tombstone and tombstone ~= ARGV[3] then
  return 0
end
if redis.call('EXISTS', KEYS[1]) == 1 then
  return redis.call('STRLEN', KEYS[1]) > 16384 and 2 or redis.call('GET', KEYS[1])
end
if ARGV[1] == '' then
  if redis.call('EXISTS', KEYS[3]) == 0 then
    return redis.error_reply('TRYAGAIN the value to save has expired before it was saved')
  end
  redis.call('RENAME', KEYS[3], KEYS[1])
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
