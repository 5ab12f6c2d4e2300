package storage

import "github.com/redis/go-redis/v9"

// The scripts of OfflineCache. KEYS of all: set, hash, lease.
//
// Each begins by asking which life this is of the server's data: the replication id is another after a restart and after
// a replica's promotion. What a former life left, from a snapshot on disk or on a replica that was behind, may be older
// than a recall, so the hash carries the life that it was made in, under the field '!', and one of another life counts as
// nothing. A server that does not tell its life (the stand-in) never has another.
const redisLife = `
local life = ''
local info = redis.pcall('INFO', 'replication')
if type(info) == 'string' then life = string.match(info, 'master_replid:(%x+)') or '' end
`

// appendScript adds entries and trims. ARGV: length, ttl in ms, lease or ” for any, until when in ms of the server's
// clock, lowest and highest seq, then seq, id, body of each entry. It returns the server's time in ms.
//
// It does nothing when it comes too late: the caller has given it up, and what was recalled meanwhile is forgotten. And it
// does nothing when a lease was given that is void: what the caller read may have been recalled since.
var appendScript = redis.NewScript(redisLife + `
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
if now > tonumber(ARGV[4]) then return now end
if ARGV[3] ~= '' then
  if redis.call('GET', KEYS[3]) ~= ARGV[3] or string.sub(ARGV[3], 1, #life + 1) ~= life .. ':' then return now end
  redis.call('ZREMRANGEBYSCORE', KEYS[1], ARGV[5], ARGV[6])
end
if redis.call('HGET', KEYS[2], '!') ~= life or redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('DEL', KEYS[1], KEYS[2])
  redis.call('HSET', KEYS[2], '!', life)
end
for i = 7, #ARGV, 3 do
  redis.call('ZADD', KEYS[1], ARGV[i], ARGV[i + 1])
  redis.call('HSET', KEYS[2], ARGV[i + 1], ARGV[i + 2])
end
local excess = redis.call('ZCARD', KEYS[1]) - tonumber(ARGV[1])
if excess > 0 then
  local old = redis.call('ZRANGE', KEYS[1], 0, excess - 1)
  for i = 1, #old, 1000 do
    redis.call('HDEL', KEYS[2], unpack(old, i, math.min(i + 999, #old)))
  end
  redis.call('ZREMRANGEBYRANK', KEYS[1], 0, excess - 1)
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return now
`)

// rangeScript reads the entries with seq in (from, to]. ARGV: from, to, a new lease's token, its ttl in ms. It returns ”
// and the bodies in order if there are exactly to-from of them; else only a lease, for the append that repairs, or ” where
// none can be given.
var rangeScript = redis.NewScript(redisLife + `
local want = tonumber(ARGV[2]) - tonumber(ARGV[1])
if want > 0 and want <= 4000 and redis.call('HGET', KEYS[2], '!') == life then
  local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. ARGV[1], ARGV[2], 'LIMIT', 0, want + 1)
  if #ids == want then
    local out = redis.call('HMGET', KEYS[2], unpack(ids))
    local whole = true
    for i = 1, #ids do whole = whole and out[i] end
    if whole then
      table.insert(out, 1, '')
      return out
    end
  end
end
local lease = redis.call('GET', KEYS[3])
if lease and string.sub(lease, 1, #life + 1) == life .. ':' then return {lease} end
lease = life .. ':' .. ARGV[3]
local set = redis.pcall('SET', KEYS[3], lease, 'PX', ARGV[4])
if type(set) == 'table' and set.err then return {''} end
return {lease}
`)
