-- Takes back a regenerate of which no reply came, and keeps it from being done later.
--
-- KEYS     those of regenerate.lua, of two ids
-- ARGV[1]  the version that the session got by it
-- ARGV[2]  how many seconds a tombstone lasts
--
-- Returns 1 when the session is under its old id, or there is none; and 0 when it stays under the new id, because the old
-- one has been destroyed or created anew.

local tombstone = redis.call('GET', KEYS[3]) or ''
local _, at = string.find(tombstone, ARGV[1], 1, true)
if at then
  if string.sub(tombstone, at + 1, at + 3) == 'new' then
    redis.call('DEL', KEYS[2])
  elseif redis.call('EXISTS', KEYS[2]) == 1 and redis.call('EXISTS', KEYS[1]) == 0 then
    redis.call('RENAME', KEYS[2], KEYS[1])
    redis.call('DEL', KEYS[3])
  end
end
redis.call('SETEX', KEYS[4], ARGV[2], ARGV[1])
return redis.call('GETRANGE', KEYS[2], -#ARGV[1], -1) == ARGV[1] and 0 or 1
