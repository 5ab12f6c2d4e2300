package storage

import (
	"context"
	"errors"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// redisTimeout bounds every command: Redis is only worth asking while it is fast.
const redisTimeout = 400 * time.Millisecond

// quiet takes what go-redis would print by itself: every failed dial, on standard error. What matters of it is told by the
// breaker of package offline.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

func init() { redis.SetLogger(quiet{}) } //nolint:gochecknoinits // it is the library's only switch, for the whole process

const (
	// redisConns bounds the connections to one server; who finds none free within redisTimeout does without Redis.
	redisConns = 32
	// redisConnIdle is after how long without use a connection is closed, soon after, where the URL says nothing else.
	redisConnIdle = 5 * time.Minute
)

var errRedisURL = errors.New("PARLEY_REDIS_URL is no valid address of Redis") // the cause would quote the password

// OpenRedis makes a client; it connects when first used. The URL is
//
//	redis://user:password@host:6379/0 (rediss:// with TLS)      one server
//	unix://user:password@/path/to/socket                         one server, on this machine
//	redis+sentinel://user:password@h1:26379,h2:26379/name        Sentinel, with the master's name
//	redis+cluster://user:password@h1:6379,h2:6379                Cluster (rediss+... with TLS)
//
// One server takes ?conn_max_idle_time=D, after how long without use a connection is closed; redisConnIdle if it is not there.
// Sentinel takes ?db=N, and ?sentinel_username=...&sentinel_password=... where the sentinels have another login than the
// servers; empty ones mean none.
//
// No command is repeated by the client, none takes longer than redisTimeout, and a refused connection is not dialed again
// within a command: what Redis does not do at once is done without it.
func OpenRedis(raw string) (redis.UniversalClient, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, errRedisURL
	}
	scheme, mode, _ := strings.Cut(u.Scheme, "+")
	if scheme != "redis" && scheme != "rediss" && u.Scheme != "unix" {
		return nil, errRedisURL
	}
	switch mode {
	case "":
		return openOne(raw)
	case "sentinel", "cluster":
		return openMany(u, scheme == "rediss", mode)
	default:
		return nil, errRedisURL
	}
}

func openOne(raw string) (redis.UniversalClient, error) {
	o, err := redis.ParseURL(raw)
	if err != nil {
		return nil, errRedisURL
	}
	o.Protocol, o.ContextTimeoutEnabled, o.MaxRetries, o.DialerRetries = 3, true, -1, 1
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = redisTimeout, redisTimeout, redisTimeout, redisTimeout
	o.PoolSize, o.MaxActiveConns = redisConns, redisConns
	if o.ConnMaxIdleTime <= 0 {
		o.ConnMaxIdleTime = redisConnIdle
	}
	o.Dialer = dialer(redis.NewDialer(o)).givingBack(o.ConnMaxIdleTime)
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return redis.NewClient(o), nil
}

func openMany(u *url.URL, withTLS bool, mode string) (redis.UniversalClient, error) {
	o := &redis.UniversalOptions{Addrs: strings.Split(u.Host, ","), Protocol: 3, ContextTimeoutEnabled: true, MaxRetries: -1,
		DialerRetries: 1, DialTimeout: redisTimeout, ReadTimeout: redisTimeout, WriteTimeout: redisTimeout, PoolTimeout: redisTimeout,
		PoolSize: redisConns, MaxActiveConns: redisConns, ConnMaxIdleTime: redisConnIdle,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}}
	if u.Host == "" {
		return nil, errRedisURL
	}
	if u.User != nil {
		o.Username = u.User.Username()
		o.Password, _ = u.User.Password()
	}
	if withTLS {
		one, err := redis.ParseURL("rediss://" + o.Addrs[0])
		if err != nil {
			return nil, errRedisURL
		}
		o.TLSConfig = one.TLSConfig
		o.TLSConfig.ServerName = "" // each server's own
	}
	// An empty TLSConfig.ServerName becomes that of the address.
	dial := redis.NewDialer(&redis.Options{DialTimeout: o.DialTimeout, TLSConfig: o.TLSConfig})
	o.Dialer = dialer(dial).givingBack(o.ConnMaxIdleTime)
	path, query := strings.Trim(u.Path, "/"), u.Query()
	if mode == "cluster" {
		if path != "" || len(query) > 0 {
			return nil, errRedisURL
		}
		return newCluster(redis.NewClusterClient(o.Cluster())), nil
	}
	o.MasterName = path
	o.SentinelUsername, o.SentinelPassword = o.Username, o.Password
	for name, value := range query {
		var err error
		switch name {
		case "db":
			o.DB, err = strconv.Atoi(value[0])
		case "sentinel_username":
			o.SentinelUsername = value[0]
		case "sentinel_password":
			o.SentinelPassword = value[0]
		default:
			err = errRedisURL
		}
		if err != nil || o.DB < 0 {
			return nil, errRedisURL
		}
	}
	if o.MasterName == "" {
		return nil, errRedisURL
	}
	return redis.NewUniversalClient(o), nil
}
