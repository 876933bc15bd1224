-- Takes back a removal by remove.lua or regenerate.lua, if it was done, and keeps remove.lua from doing it later.
--
-- KEYS[1]  the session
-- KEYS[2]  its tombstone
-- ARGV[1]  the version of the copy
-- ARGV[2]  the session that was copied, with a version of its own
-- ARGV[3]  that version
-- ARGV[4]  'EX' and
-- ARGV[5]  its life time in seconds; neither for none
--
-- Returns 1 when the session is there, 0 when somebody else has removed it, and 2 when it was removed and another one has
-- been created since.

local exists = redis.call('EXISTS', KEYS[1]) == 1
local removed = string.find(redis.call('GET', KEYS[2]) or '', ARGV[1], 1, true)
if exists and removed then
  return 2
elseif not exists and not removed then
  return 0
elseif redis.call('STRLEN', KEYS[1]) > 0 then
  redis.call('APPEND', KEYS[1], ARGV[3]) -- a removal that comes late no longer finds what it looks for
  return 1
end
redis.call('SET', KEYS[1], ARGV[2], unpack(ARGV, 4))
redis.call('DEL', KEYS[2])
return 1
