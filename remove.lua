-- Removes a session that still is what was copied from it to another server.
--
-- KEYS[1]  the session
-- KEYS[2]  its tombstone
-- ARGV[1]  what the session must end with: the version that was copied, or all of a value that had none
-- ARGV[2]  where that begins, as GETRANGE counts
-- ARGV[3]  the version of the copy, by which a repeat of this very removal is known
-- ARGV[4]  how many seconds a tombstone lasts
--
-- Returns 1 when removed, also if that was before and only the reply was lost; 0 when somebody else has removed it; and
-- else what somebody wrote meanwhile.

local tail = redis.call('GETRANGE', KEYS[1], ARGV[2], -1)
if tail ~= ARGV[1] or tail == '' then
  local stored = redis.call('GET', KEYS[1])
  if not stored then
    return redis.call('GET', KEYS[2]) == ARGV[3] and 1 or 0
  elseif stored ~= ARGV[1] then
    return stored
  end
end
redis.call('SETEX', KEYS[2], ARGV[4], ARGV[3])
redis.call('DEL', KEYS[1])
return 1
