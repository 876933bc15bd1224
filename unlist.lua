-- Drops sessions from the index of a user whose sessions they are not, unless they were entered a moment ago.
--
-- KEYS[1]  the index
-- ARGV[1]  how many seconds after a session was entered it ends for certain
-- ARGV[2]  how many seconds a request may take from entering a session until it has saved it
-- ARGV[3]  an id, and
-- ARGV[4]  when it ends, as the caller has found it; and more such pairs behind them
--
-- Whoever enters a session saves it after that: an id that points to nothing may be one that is about to.

local now = redis.call('TIME')[1]
local dropped = 0
for i = 3, #ARGV, 2 do
  local ends = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if ends and tonumber(ends) == tonumber(ARGV[i + 1]) and now - (ends - ARGV[1]) > tonumber(ARGV[2]) then
    dropped = dropped + redis.call('ZREM', KEYS[1], ARGV[i])
  end
end
return dropped
