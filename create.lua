-- Creates a session, unless its id was destroyed since the writer looked.
--
-- KEYS[1]  the session
-- KEYS[2]  its tombstone; not given where the server cannot look at both
-- KEYS[3]  where the value to write waits, if it does not stand in ARGV[1]
-- ARGV[1]  the value to write
-- ARGV[2]  the tombstone that the writer has seen, empty for none
-- ARGV[3]  'EX' and
-- ARGV[4]  the life time in seconds; neither for none
--
-- Returns 1 when created, 0 where the id was destroyed, and else the session that somebody has created meanwhile, or 2
-- where that is large. (It is the writer's own if its reply was lost and it sent the same again.)

local tombstone = KEYS[2] and redis.call('GET', KEYS[2])
if tombstone and tombstone ~= ARGV[2] then
  return 0
end
if not KEYS[3] then
  if redis.call('SET', KEYS[1], ARGV[1], 'NX', unpack(ARGV, 3)) then
    return 1
  end
elseif redis.call('EXISTS', KEYS[1]) == 0 then
  -- The life time first, as in save.lua.
  local waits
  if ARGV[4] then
    waits = redis.call('EXPIRE', KEYS[3], ARGV[4])
  else
    waits = redis.call('PERSIST', KEYS[3])
  end
  if waits == 0 then
    return redis.error_reply('NOVALUE the value has expired before it was saved')
  end
  local moved = redis.pcall('RENAME', KEYS[3], KEYS[1])
  if moved.err then
    redis.call('DEL', KEYS[3])
    return moved
  end
  return 1
end
return redis.call('STRLEN', KEYS[1]) > 16384 and 2 or redis.call('GET', KEYS[1])
