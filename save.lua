-- Saves a session, unless it is no longer what the writer read.
--
-- KEYS[1]  the session
-- ARGV[1]  the value to write
-- ARGV[2]  its life time in seconds, 0 for none
-- ARGV[3]  what the writer read: 'present', 'absent' (create it), or 'never' (absent, and not to be created)
-- ARGV[4]  the value the writer read, if present
--
-- The old value is compared as it is. Its SHA-1 instead, by redis.sha1hex, was slower: most of the time goes into turning
-- the arguments and what is stored into Lua strings. Of a plain SETEX's time a save took, at 0.2, 1 and 5 KB with 16
-- goroutines, 1.49, 1.80 and 1.82 times with the old bytes, and 1.58, 1.86 and 2.05 times with their SHA-1 (docs/bench.md).
--
-- Returns 1 when saved, 0 when there is no session to save into, or the value that somebody else wrote meanwhile.

local stored = redis.call('GET', KEYS[1])
if not stored then
  if ARGV[3] ~= 'absent' then
    return 0
  end
elseif stored ~= ARGV[1] and (ARGV[3] ~= 'present' or stored ~= ARGV[4]) then
  -- Finding ARGV[1] is no conflict: the reply to this very save was lost and the client sent it again.
  return stored
end
if ARGV[2] == '0' then
  redis.call('SET', KEYS[1], ARGV[1])
else
  redis.call('SETEX', KEYS[1], ARGV[2], ARGV[1])
end
return 1
