-- Takes back a regenerate of which no reply came, and keeps it from being done later.
--
-- KEYS     those of regenerate.lua, of two ids
-- ARGV[1]  the version that the session got by it
-- ARGV[2]  how many seconds a tombstone lasts
--
-- Returns 1: now the session is under its old id, or there is none.

local tombstone = redis.call('GET', KEYS[3])
if tombstone == ARGV[1] .. 'new' then
  redis.call('DEL', KEYS[2])
elseif tombstone == ARGV[1] and redis.call('EXISTS', KEYS[2]) == 1 and redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('RENAME', KEYS[2], KEYS[1])
  redis.call('DEL', KEYS[3])
end
redis.call('SETEX', KEYS[4], ARGV[2], ARGV[1])
return 1
