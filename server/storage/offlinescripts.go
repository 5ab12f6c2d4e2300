package storage

import "github.com/redis/go-redis/v9"

// The scripts of OfflineCache.
//
// Each begins by asking which life this is of the server's data: the replication id is another after a restart and after
// a replica's promotion; 16 of its 40 digits tell lives apart well enough. What a former life left, from a snapshot on disk or on a replica that was behind, may be older
// than a recall, so each chunk and each lease begins with the life that it was made in and a colon, and one of another life
// counts as nothing. A server that does not tell its life (the stand-in) never has another.
const redisLife = `
local life = ''
local info = redis.pcall('INFO', 'replication')
if type(info) == 'string' then life = string.sub(string.match(info, 'master_replid:(%x+)') or '', 1, 16) end
`

// appendScript adds chunks to sessions and trims them. KEYS: set and lease of each session. ARGV: length, ttl in ms, until
// when in ms of the server's clock, then for each session its lease or ” for any, lowest and highest seq, how many chunks,
// last seq and bytes of each. It returns the server's time in ms.
//
// It does nothing when it comes too late: the caller has given it up, and what was recalled meanwhile is forgotten. And it
// does nothing to a session whose lease was given and is void: what the caller read may have been recalled since. A session
// that cannot be written, such as one whose keys hold something else, keeps no other from being written; the script then
// fails in the end.
//
// Seqs have no holes, so a session is trimmed by them. What is repaired may be older than what is there: the newest tells
// what is too old. unpack takes some thousand values at most, hence the parts.
var appendScript = redis.NewScript(redisLife + `
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
if now > tonumber(ARGV[3]) then return now end
local length, ttl = tonumber(ARGV[1]), ARGV[2]
life = life .. ':'
local function append(set, lease, at)
  local given, top, n = ARGV[at], tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  if given ~= '' then
    if redis.call('GET', lease) ~= given or string.sub(given, 1, #life) ~= life then return end
    redis.call('ZREMRANGEBYSCORE', set, ARGV[at + 1], ARGV[at + 2])
  end
  at = at + 4
  for i = at, at + 2 * n - 1, 1000 do
    local some = {}
    for j = i, math.min(i + 998, at + 2 * n - 2), 2 do
      some[#some + 1] = ARGV[j]
      some[#some + 1] = life .. ARGV[j + 1]
    end
    redis.call('ZADD', set, unpack(some))
  end
  if given ~= '' then
    top = tonumber(redis.call('ZRANGE', set, -1, -1, 'WITHSCORES')[2])
  end
  if top > length then redis.call('ZREMRANGEBYSCORE', set, '-inf', top - length) end
  redis.call('PEXPIRE', set, ttl)
end
local at, failed = 4, nil
for k = 1, #KEYS, 2 do
  local ok, err = pcall(append, KEYS[k], KEYS[k + 1], at)
  if not ok then failed = err end
  at = at + 4 + 2 * tonumber(ARGV[at + 3])
end
if failed then return redis.error_reply(type(failed) == 'table' and failed.err or tostring(failed)) end
return now
`)

// rangeScript reads the chunks that may hold entries with seq in (from, to], of many sessions. KEYS: sets. ARGV: from and to
// of each. It returns the life with its colon, and for each session its chunks, ascending by last seq: those that end within
// the range, and the first that ends behind it. A key that holds something else gives one empty chunk.
var rangeScript = redis.NewScript(redisLife + `
local out = {life .. ':'}
for k = 1, #KEYS do
  local got = redis.pcall('ZRANGEBYSCORE', KEYS[k], '(' .. ARGV[2 * k - 1], '(' .. ARGV[2 * k])
  if got.err then
    if not string.find(got.err, 'WRONGTYPE') then return got end
    got = {''}
  else
    got[#got + 1] = redis.call('ZRANGEBYSCORE', KEYS[k], ARGV[2 * k], '+inf', 'LIMIT', 0, 1)[1]
  end
  out[k + 1] = got
end
return out
`)

// leaseScript gives leases for the appends that repair. KEYS: leases. ARGV: a new lease's token, its ttl in ms. It returns
// of each session the lease that it has or is given, or ” where none can be given.
var leaseScript = redis.NewScript(redisLife + `
local out = {}
life = life .. ':'
for k = 1, #KEYS do
  local lease = redis.call('GET', KEYS[k])
  if not lease or string.sub(lease, 1, #life) ~= life then
    lease = life .. ARGV[1]
    local set = redis.pcall('SET', KEYS[k], lease, 'PX', ARGV[2])
    if type(set) == 'table' and set.err then lease = '' end
  end
  out[k] = lease
end
return out
`)
