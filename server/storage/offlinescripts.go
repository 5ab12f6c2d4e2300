package storage

import "github.com/redis/go-redis/v9"

// The scripts of OfflineCache. KEYS of all: set, hash, lease; the one that appends takes those of many sessions.
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

// appendScript adds entries to sessions and trims them. ARGV: length, ttl in ms, until when in ms of the server's clock, then
// for each session its lease or ” for any, lowest and highest seq, how many entries, seq and id of each, and once more id
// and body of each. It returns the server's time in ms.
//
// It does nothing when it comes too late: the caller has given it up, and what was recalled meanwhile is forgotten. And it
// does nothing to a session whose lease was given and is void: what the caller read may have been recalled since. A session
// that cannot be written, such as one whose keys hold something else, keeps no other from being written; the script then
// fails in the end.
//
// Each command that a script calls costs Redis more than an entry does, so there are as few as can be: the entries of a
// session go in by one ZADD and one HSET. unpack takes some thousand values at most, hence the parts.
var appendScript = redis.NewScript(redisLife + `
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
if now > tonumber(ARGV[3]) then return now end
local length, ttl = tonumber(ARGV[1]), ARGV[2]
local function append(set, hash, lease, at)
  local given, n = ARGV[at], tonumber(ARGV[at + 3])
  if given ~= '' then
    if redis.call('GET', lease) ~= given or string.sub(given, 1, #life + 1) ~= life .. ':' then return end
    redis.call('ZREMRANGEBYSCORE', set, ARGV[at + 1], ARGV[at + 2])
  end
  local there = redis.call('ZCARD', set)
  if there == 0 or redis.call('HGET', hash, '!') ~= life then
    there = 0
    redis.call('DEL', set, hash)
    redis.call('HSET', hash, '!', life)
  end
  local seqs, bodies = at + 4, at + 4 + 2 * n
  for i = 0, 2 * n - 1, 2000 do
    local last = math.min(i + 1999, 2 * n - 1)
    there = there + redis.call('ZADD', set, unpack(ARGV, seqs + i, seqs + last))
    redis.call('HSET', hash, unpack(ARGV, bodies + i, bodies + last))
  end
  if there > length then
    local old = redis.call('ZRANGE', set, 0, there - length - 1)
    for i = 1, #old, 1000 do
      redis.call('HDEL', hash, unpack(old, i, math.min(i + 999, #old)))
    end
    redis.call('ZREMRANGEBYRANK', set, 0, there - length - 1)
  end
  redis.call('PEXPIRE', set, ttl)
  redis.call('PEXPIRE', hash, ttl)
end
local at, failed = 4, nil
for k = 1, #KEYS, 3 do
  local ok, err = pcall(append, KEYS[k], KEYS[k + 1], KEYS[k + 2], at)
  if not ok then failed = err end
  at = at + 4 + 4 * tonumber(ARGV[at + 3])
end
if failed then return redis.error_reply(type(failed) == 'table' and failed.err or tostring(failed)) end
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
