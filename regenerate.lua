-- Moves a session to a new id, where one server holds both.
--
-- KEYS[1]  the old id, and
-- KEYS[2]  the new one, which may be the same
-- KEYS[3]  the tombstone of the old id, and
-- KEYS[4]  that of the new one
-- ARGV[1]  the version of the session from now on, by which a repeat of this very move is known
-- ARGV[2]  the session where there was none: empty, with that version
-- ARGV[3]  how many seconds a tombstone lasts
-- ARGV[4]  'EX' and
-- ARGV[5]  the life time in seconds from now on; neither for none
--
-- The value does not pass through Lua: the client reads it from the new id. The tombstone of the old id holds the version
-- of each move from it, with 'new' behind it where there was nothing to move; only a log-out begins it anew. What makes the new
-- id comes last: where the user may not run one of the commands, nothing has moved.
--
-- Returns 1 when moved, 2 where there was nothing to move, either also if that was before and only the reply was lost, and 0
-- where unregenerate.lua came first.

local same = KEYS[1] == KEYS[2]
local tombstone = redis.call('GET', KEYS[3]) or ''
if not same then
  if redis.call('GET', KEYS[4]) == ARGV[1] then
    return 0
  end
  local _, at = string.find(tombstone, ARGV[1], 1, true)
  if at then
    return string.sub(tombstone, at + 1, at + 3) == 'new' and 2 or 1
  end
end
if #tombstone > 900 then
  tombstone = ''
end
tombstone = tombstone .. ARGV[1]
local empty = redis.call('STRLEN', KEYS[1]) == 0
local new = empty and redis.call('EXISTS', KEYS[1]) == 0
if new then
  tombstone = tombstone .. 'new'
end
if not same then
  redis.call('SETEX', KEYS[3], ARGV[3], tombstone)
end
if empty then
  if not same then
    redis.call('DEL', KEYS[1])
  end
  redis.call('SET', KEYS[2], ARGV[2], unpack(ARGV, 4))
else
  redis.call('APPEND', KEYS[1], ARGV[1])
  if ARGV[5] then
    redis.call('EXPIRE', KEYS[1], ARGV[5])
  else
    redis.call('PERSIST', KEYS[1])
  end
  if not same then
    redis.call('RENAME', KEYS[1], KEYS[2])
  end
end
return new and 2 or 1
