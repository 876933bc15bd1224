-- Enters sessions in the index of their user.
--
-- KEYS[1]  the index: a sorted set of session ids, each with the second at which it will have ended for certain
-- ARGV[1]  how many seconds from now that is
-- ARGV[2]  the id, and more of them behind it
--
-- By the server's clock, which is the same for all. Ids that have ended are dropped on the way, and the index lives as long as
-- the last of them.

local now = redis.call('TIME')[1]
local ends = string.format('%.0f', now + ARGV[1])
for i = 2, #ARGV do
  redis.call('ZADD', KEYS[1], ends, ARGV[i])
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if redis.call('PTTL', KEYS[1]) < ARGV[1] * 1000 then
  redis.call('EXPIRE', KEYS[1], ARGV[1])
end
return 1
