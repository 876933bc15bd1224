-- Moves a session to a new id, where one server holds both keys.
--
-- KEYS[1]  the old id
-- KEYS[2]  the new id
-- ARGV[1]  the life time in seconds from now on, 0 for none
--
-- Returns the value that now is under the new id: empty where there was no old session.

local stored = redis.call('GET', KEYS[1])
if not stored then
  -- A session under the new id, which was drawn at random, can only mean that the reply to this very regenerate was
  -- lost and the client sent it again.
  stored = redis.call('GET', KEYS[2]) or ''
end
if ARGV[1] == '0' then
  redis.call('SET', KEYS[2], stored)
else
  redis.call('SETEX', KEYS[2], ARGV[1], stored)
end
if KEYS[1] ~= KEYS[2] then
  redis.call('DEL', KEYS[1])
end
return stored
