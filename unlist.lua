-- Drops sessions from the index of a user whose sessions they were found not to be, unless they were entered a moment ago.
--
-- KEYS[1]  the index
-- ARGV[1]  how many seconds after it was entered a session has ended for certain
-- ARGV[2]  how many seconds a request may take from entering a session until it has saved it
-- ARGV[3]  an id, and more of them behind it
--
-- Whoever enters a session saves it after that: an id that points to nothing may be one that is about to.

local now = redis.call('TIME')[1]
for i = 3, #ARGV do
  local ends = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if ends and now - (ends - ARGV[1]) > tonumber(ARGV[2]) then
    redis.call('ZREM', KEYS[1], ARGV[i])
  end
end
return 1
