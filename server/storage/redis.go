package storage

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// redisTimeout bounds every command: Redis is only worth asking while it is fast.
const redisTimeout = 400 * time.Millisecond

// quiet takes what go-redis would print by itself: every failed dial, on standard error. What matters of it is told by the
// breaker of package offline.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

func init() { redis.SetLogger(quiet{}) } //nolint:gochecknoinits // it is the library's only switch, for the whole process

// OpenRedis makes a client; it connects when first used. The URL is
//
//	redis://user:password@host:6379/0 (rediss:// with TLS)      one server
//	redis+sentinel://user:password@h1:26379,h2:26379/name        Sentinel, with the master's name
//	redis+cluster://user:password@h1:6379,h2:6379                Cluster (rediss+... with TLS)
func OpenRedis(raw string) (redis.UniversalClient, error) {
	bad := errors.New("PARLEY_REDIS_URL is no valid address of Redis") // the cause would quote the password
	u, err := url.Parse(raw)
	if err != nil {
		return nil, bad
	}
	scheme, mode, _ := strings.Cut(u.Scheme, "+")
	if scheme != "redis" && scheme != "rediss" && u.Scheme != "unix" {
		return nil, bad
	}
	if mode == "" {
		o, err := redis.ParseURL(raw)
		if err != nil {
			return nil, bad
		}
		o.Protocol, o.ContextTimeoutEnabled, o.MaxRetries = 3, true, -1
		o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = redisTimeout, redisTimeout, redisTimeout, redisTimeout
		return redis.NewClient(o), nil
	}
	o := &redis.UniversalOptions{Addrs: strings.Split(u.Host, ","), Protocol: 3, ContextTimeoutEnabled: true, MaxRetries: -1,
		DialTimeout: redisTimeout, ReadTimeout: redisTimeout, WriteTimeout: redisTimeout, PoolTimeout: redisTimeout}
	if u.User != nil {
		o.Username = u.User.Username()
		o.Password, _ = u.User.Password()
	}
	if scheme == "rediss" {
		one, err := redis.ParseURL("rediss://" + o.Addrs[0])
		if err != nil {
			return nil, bad
		}
		o.TLSConfig = one.TLSConfig
		o.TLSConfig.ServerName = "" // each server's own
	}
	switch mode {
	case "sentinel":
		o.MasterName = strings.Trim(u.Path, "/")
		o.SentinelUsername, o.SentinelPassword = o.Username, o.Password
		if o.MasterName == "" {
			return nil, bad
		}
	case "cluster":
		o.IsClusterMode = true
	default:
		return nil, bad
	}
	return redis.NewUniversalClient(o), nil
}
