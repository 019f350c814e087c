-- Extend the lease of a running analysis date: revision and end of the lease beside the record, and the wake index entry.
--
-- KEYS[1] record   hash    {v = version, n = revision, r = record as JSON, l = revision of a renewal, space, end of the lease}
-- KEYS[2] wake     zset    date -> next instant something is due, milliseconds since 1970 UTC
-- ARGV    1 expected version, 2 expected revision, 3 new revision, 4 renewal for l, 5 date, 6 wake
-- Result  "stored"; "conflict" when version or revision is another one. A second run finds its own revision and writes the
--         same values again, so a WAIT of a client that lost the reply speaks of these values.
-- Redis does not roll back a script, so everything that can go wrong is looked at before the first write.

local calls = {{'TYPE', KEYS[1]}, {'HMGET', KEYS[1], 'v'}, {'HSET', KEYS[1], 'v', '1'}, {'ZADD', KEYS[2], '0', 'm'}}
for _, call in ipairs(redis.acl_check_cmd and calls or {}) do
  if not redis.acl_check_cmd(unpack(call)) then
    return redis.error_reply('NOPERM this account may not run ' .. call[1] .. ' on ' .. call[2])
  end
end
for i, kind in ipairs({'hash', 'zset'}) do
  local found = redis.call('TYPE', KEYS[i])['ok']
  if found ~= 'none' and found ~= kind then
    return redis.error_reply('WRONGTYPE ' .. KEYS[i] .. ' is a ' .. found .. ', not a ' .. kind)
  end
end
-- The revision keeps a decision on the record before the renewal, such as the end of the lease, out of the store.
local stored = redis.call('HMGET', KEYS[1], 'v', 'n')
local revision = stored[2] or ''
if stored[1] ~= ARGV[1] or (revision ~= ARGV[2] and revision ~= ARGV[3]) then
  return 'conflict'
end
redis.call('HSET', KEYS[1], 'n', ARGV[3], 'l', ARGV[4])
redis.call('ZADD', KEYS[2], ARGV[6], ARGV[5])
return 'stored'
