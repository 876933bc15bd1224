-- Removes a session that still is what was copied from it to another id.
--
-- KEYS[1]  the session
-- KEYS[2]  a receipt in the same slot, kept for ten seconds
-- ARGV[1]  the value that was copied
-- ARGV[2]  the key it was copied to
--
-- Returns 1 when removed, 0 when somebody else removed it, or the value that somebody else wrote meanwhile.

local stored = redis.call('GET', KEYS[1])
if not stored then
  -- The receipt tells a lost race from a lost reply, after which the client sends the same removal again.
  return redis.call('GET', KEYS[2]) == ARGV[2] and 1 or 0
elseif stored ~= ARGV[1] then
  return stored
end
redis.call('SETEX', KEYS[2], 10, ARGV[2])
redis.call('DEL', KEYS[1])
return 1
