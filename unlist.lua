-- Drops sessions from the index of a user whose sessions they were found not to be, unless they were entered a moment ago.
--
-- KEYS[1]  the index, as list.lua has it
-- ARGV[1]  how many seconds a request may take from entering a session until it has saved it
-- ARGV[2]  an id, and more of them behind it
--
-- Whoever enters a session saves it after that: an id that points to nothing may be one that is about to. The clock may have
-- gone back, by an hour at most, where another server has taken over.

local now = redis.call('TIME')[1]
for i = 2, #ARGV do
  local score = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[i]))
  if score then
    local age = (now - score % 1 * 262144) % 262144
    if age > tonumber(ARGV[1]) and age < 262144 - 3600 then
      redis.call('ZREM', KEYS[1], ARGV[i])
    end
  end
end
return 1
