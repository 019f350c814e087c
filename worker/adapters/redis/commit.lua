-- Store one decision about one analysis date: record, wake index, outbox, history and mark together, or nothing.
--
-- KEYS[1] record   hash    {v = version, n = revision: the operation that stored it, r = record as JSON}; see renew.lua for l
-- KEYS[2] wake     zset    date -> next instant something is due, milliseconds since 1970 UTC
-- KEYS[3] dates    zset    date -> its ordinal, every date ever opened
-- KEYS[4] outbox   stream  messages to publish
-- KEYS[5] changes  list    one entry per change of this date, oldest first
-- KEYS[6] arrivals zset    date -> version of the last commit with a report, until the arrivals are in the warehouse
-- KEYS[7] operation string present for a while after this operation was stored
-- ARGV    1 expected version, 2 new version, 3 record, 4 date, 5 wake (empty: nothing due), 6 ordinal,
--         7 history entry (empty: none), 8 history length, 9 milliseconds to remember the operation,
--         10 ms until a finished date expires (0: keeps), 11 expected revision, 12 new revision,
--         13 whether the history entry has a report (1, or empty), then 5 per message: event id, topic, data, attributes, key
-- Result  "stored"; "repeated" when this very operation was stored before (a client that lost the reply sends it
--         again); "conflict" when version or revision is another one. A second run changes nothing but how long 7 is kept.
-- Redis does not roll back a script, so everything that can go wrong is looked at before the first write.

-- An account that lacks a right is refused here, and not between two writes. A test's imitation of a server has no
-- accounts.
local calls = {
  {'EXISTS', KEYS[7]}, {'PEXPIRE', KEYS[7], '1'}, {'TYPE', KEYS[1]}, {'HMGET', KEYS[1], 'v'},
  {'XADD', KEYS[4], '*', 'f', 'v'}, {'HSET', KEYS[1], 'v', '1'}, {'ZREM', KEYS[2], 'm'}, {'ZADD', KEYS[2], '0', 'm'},
  {'ZADD', KEYS[3], '0', 'm'}, {'RPUSH', KEYS[5], 'v'}, {'LTRIM', KEYS[5], '0', '0'}, {'PERSIST', KEYS[5]},
  {'ZADD', KEYS[6], '0', 'm'}, {'SET', KEYS[7], 'v'},
}
for _, call in ipairs(redis.acl_check_cmd and calls or {}) do
  if not redis.acl_check_cmd(unpack(call)) then
    return redis.error_reply('NOPERM this account may not run ' .. call[1] .. ' on ' .. call[2])
  end
end
if redis.call('EXISTS', KEYS[7]) == 1 then
  -- Remembered anew, which is a write: a WAIT on a connection that wrote nothing would be content at once, whatever the
  -- replicas hold (Valkey 9), and the lost reply that made the client repeat cost it the connection that wrote.
  redis.call('PEXPIRE', KEYS[7], ARGV[9])
  return 'repeated'
end
local kinds = {'hash', 'zset', 'zset', 'stream', 'list', 'zset'}
for i, kind in ipairs(kinds) do
  local found = redis.call('TYPE', KEYS[i])['ok']
  if found ~= 'none' and found ~= kind then
    return redis.error_reply('WRONGTYPE ' .. KEYS[i] .. ' is a ' .. found .. ', not a ' .. kind)
  end
end
-- Versions begin at 1 again when a date was lost; the revision keeps a decision on its former life off the new one.
local stored = redis.call('HMGET', KEYS[1], 'v', 'n')
if (stored[1] or '0') ~= ARGV[1] or (stored[2] or '') ~= ARGV[11] then
  return 'conflict'
end

-- First the only write that can still fail: a stream that has used up its ids takes no entry.
for i = 14, #ARGV, 5 do
  redis.call('XADD', KEYS[4], '*', 'event_id', ARGV[i], 'topic', ARGV[i + 1], 'data', ARGV[i + 2],
    'attributes', ARGV[i + 3], 'ordering_key', ARGV[i + 4])
end
redis.call('HSET', KEYS[1], 'v', ARGV[2], 'n', ARGV[12], 'r', ARGV[3])
if ARGV[5] == '' then
  redis.call('ZREM', KEYS[2], ARGV[4])
else
  redis.call('ZADD', KEYS[2], ARGV[5], ARGV[4])
end
redis.call('ZADD', KEYS[3], ARGV[6], ARGV[4])
if ARGV[7] ~= '' then
  redis.call('RPUSH', KEYS[5], ARGV[7])
  redis.call('LTRIM', KEYS[5], -ARGV[8], -1)
end
if ARGV[13] ~= '' then
  redis.call('ZADD', KEYS[6], ARGV[2], ARGV[4])
end
for _, key in ipairs({KEYS[1], KEYS[5]}) do
  if ARGV[10] ~= '0' then
    redis.call('PEXPIRE', key, ARGV[10])
  else
    redis.call('PERSIST', key)
  end
end
redis.call('SET', KEYS[7], ARGV[2], 'PX', ARGV[9])
return 'stored'
