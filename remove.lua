-- Removes a session that still is what was copied from it to another server.
--
-- KEYS[1]  the session
-- KEYS[2]  its tombstone; not given where the server cannot look at both
-- ARGV[1]  what the session must end with: the version that was copied, or all of a value that had none
-- ARGV[2]  where that begins, as GETRANGE counts
-- ARGV[3]  the version of the copy, by which a repeat of this very removal is known
-- ARGV[4]  how many seconds a tombstone lasts
--
-- The tombstone holds the version of each copy that was made; only a log-out begins it anew.
--
-- Returns 1 when removed, also if that was before and only the reply was lost; 0 when somebody else has removed it; -1 when
-- it is not there and has no tombstone; and else what somebody wrote meanwhile.

local tombstone = KEYS[2] and redis.call('GET', KEYS[2])
local tail = redis.call('GETRANGE', KEYS[1], ARGV[2], '-1')
if tail ~= ARGV[1] or tail == '' then
  local stored = redis.call('GET', KEYS[1])
  if not stored then
    if not tombstone then
      return -1
    end
    return string.find(tombstone, ARGV[3], 1, true) and 1 or 0
  elseif stored ~= ARGV[1] then
    return stored
  end
end
if not tombstone or #tombstone > 900 then
  tombstone = ''
end
if KEYS[2] then
  redis.call('SETEX', KEYS[2], ARGV[4], tombstone .. ARGV[3])
end
redis.call('DEL', KEYS[1])
return 1
