-- Creates a session, unless its id was destroyed since the writer looked.
--
-- KEYS[1]  the session
-- KEYS[2]  its tombstone; not given where the server cannot look at both
-- KEYS[3]  where the value to write waits, if ARGV[1] is empty
-- ARGV[1]  the value to write
-- ARGV[2]  the tombstone that the writer has seen, empty for none
-- ARGV[3]  'EX' and
-- ARGV[4]  the life time in seconds; neither for none
--
-- Returns 1 when created, 0 where the id was destroyed, and else the session that somebody has created meanwhile, or 2
-- where that is large. (It is the writer's own if its reply was lost and it sent the same again.)

local call, key = redis.call, KEYS[1]
local tombstone = KEYS[2] and call('GET', KEYS[2])
if tombstone and tombstone ~= ARGV[2] then
  return 0
end
local created
if not KEYS[3] then
  created = call('SET', key, ARGV[1], 'NX', unpack(ARGV, 3))
elseif call('EXISTS', key) == 0 then
  local moved = redis.pcall('RENAME', KEYS[3], key)
  if moved.err then
    return redis.error_reply('TRYAGAIN the value to save was not there: ' .. moved.err)
  end
  created = ARGV[4] and call('EXPIRE', key, ARGV[4]) or call('PERSIST', key)
end
if created then
  return 1
end
return call('STRLEN', key) > 16384 and 2 or call('GET', key)
