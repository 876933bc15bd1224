-- Takes a session from its id, to be put under the hash of that.
--
-- KEYS[1]  the session under its id
-- KEYS[2]  where it waits, on the same server
-- KEYS[3]  the tombstone of its id
-- ARGV[1]  'back' to give it back, because nobody finds it there, and else a version
-- ARGV[2]  how many seconds a tombstone lasts
--
-- The value and its life time stay as they are. It does nothing where one waits already, or has waited of late. By the tombstone
-- what has created the session does not do it again under the id, if it is repeated or comes late.
--
-- Returns 1 when done, and else 0.

if ARGV[1] == 'back' then
  if redis.call('EXISTS', KEYS[2]) == 0 or redis.call('EXISTS', KEYS[1]) == 1 then
    return 0
  end
  redis.call('RENAME', KEYS[2], KEYS[1])
  return 1
end
if redis.call('EXISTS', KEYS[1]) == 0 or redis.call('EXISTS', KEYS[2]) == 1 then
  return 0
end
redis.call('APPEND', KEYS[3], ARGV[1])
redis.call('EXPIRE', KEYS[3], ARGV[2])
redis.call('RENAME', KEYS[1], KEYS[2])
return 1
