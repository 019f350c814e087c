-- Lower the calendar's mark where it is ahead of the clock.
--
-- KEYS[1] calendar zset    "last_opened" -> ordinal of the latest date that the calendar opened
-- ARGV    1 highest ordinal that is believed, 2 ordinal to put instead of a higher one
-- Result  1 when this call lowered it, else 0. A second run changes nothing.

local mark = redis.call('ZSCORE', KEYS[1], 'last_opened')
if not mark or tonumber(mark) <= tonumber(ARGV[1]) then
  return 0
end
redis.call('ZADD', KEYS[1], ARGV[2], 'last_opened')
return 1
