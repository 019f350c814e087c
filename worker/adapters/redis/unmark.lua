-- Remove marks of written arrivals, each only while no later commit has replaced the mark.
--
-- KEYS[1] arrivals zset    date -> version of the last commit with a report
-- ARGV    2 per mark: date, mark
-- Result  "stored". A second run removes nothing more.

for i = 1, #ARGV, 2 do
  if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[i]) or '-1') == tonumber(ARGV[i + 1]) then
    redis.call('ZREM', KEYS[1], ARGV[i])
  end
end
return 'stored'
