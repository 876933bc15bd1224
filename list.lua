-- Enters sessions in the index of their user.
--
-- KEYS[1]  the index: a sorted set of session ids, whose scores unlist.lua reads as well. The whole part is the second in which
--          the session will have ended for certain; the fraction is the second in which it was entered last, modulo 2^18, divided
--          by that. (The two have 52 bits, as many as a double can hold.)
-- ARGV[1]  how many seconds from now the sessions will have ended
-- ARGV[2]  an id, and more of them behind it
--
-- By the server's clock, which is the same for all. Nothing gets an earlier end by this. Ids that have ended are dropped on the
-- way, and the index lives as long as the last of them.

local now = tonumber(redis.call('TIME')[1])
for i = 2, #ARGV do
  local ends = math.max(now + ARGV[1], math.floor(redis.call('ZSCORE', KEYS[1], ARGV[i]) or 0))
  redis.call('ZADD', KEYS[1], string.format('%.17g', ends + now % 262144 / 262144), ARGV[i])
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if redis.call('PTTL', KEYS[1]) < ARGV[1] * 1000 then
  redis.call('EXPIRE', KEYS[1], ARGV[1])
end
return 1
