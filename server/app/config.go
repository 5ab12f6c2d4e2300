// Package app is the composition root: it reads the settings, connects all parts, runs them and takes them down in order.
package app

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/spf13/pflag"

	"github.com/parley-im/parley/server/auth"
	"github.com/parley-im/parley/server/rate"
	"github.com/parley-im/parley/server/roster"
	"github.com/parley-im/parley/server/rpc"
	"github.com/parley-im/parley/server/session"
	"github.com/parley-im/parley/server/storage"
	"github.com/parley-im/parley/server/webhook"
)

// Config is everything that can be set. Every field but Clock is a flag and an environment variable alike: --postgres-url is
// PARLEY_POSTGRES_URL. A flag wins.
type Config struct {
	Listen      string   // address of the API and the chat page; 127.0.0.1:8080
	AdminListen string   // address of metrics, health and pprof, for nobody else; 127.0.0.1:8081; empty: none
	TLSCert     string   // PEM file; with TLSKey the API speaks TLS. Both are read again when they change
	TLSKey      string   // PEM file
	CORSOrigins []string // exact origins of pages that may call, such as https://chat.example
	Reflection  bool     // offer gRPC reflection
	Proxies     []string // networks of load balancers in front of this node; loopback. See docs/limits.md
	MaxConns    int64    // connections of this node; 200,000; 0: no bound
	MaxConnsIP  int64    // connections of one address; 10,000; 0: no bound

	Rates rate.Limits // by rule; see docs/limits.md

	Postgres PostgresConfig
	Redis    RedisConfig
	Auth     AuthConfig
	Stream   StreamConfig
	Cache    CacheConfig
	Roster   RosterConfig
	Webhook  WebhookConfig

	// DevLogins are users whom the chat page signs in without a token, on this machine only. No setting: `parley run` names
	// them, and nothing in production does.
	DevLogins []string

	DataDir      string        // where keys that the server makes are kept; .data
	MaxSessions  int           // sessions that a user may be in, the same on all nodes; 10000
	Committers   int           // group commits that run at the same time, at most; see docs/operations.md
	UnaryTimeout time.Duration // bound on calls that are no streams; 10 s
	DrainTimeout time.Duration // bound on the whole shutdown; 15 s
	DrainGrace   time.Duration // how long a node that is going down serves on while balancers notice, a third of DrainTimeout at most; 3 s
	LogLevel     string        // debug, info, warn or error; info

	Clock clockwork.Clock // where all time comes from; nil: the machine's. No flag: for programs that run nodes in themselves
}

// PostgresConfig says where the truth is kept.
type PostgresConfig struct {
	URL      string        `secret:"true"` // postgres://user:password@host/database
	MaxConns int           // connections of this node; 32
	Wait     time.Duration // how long the start waits for PostgreSQL; 30 s
}

// RedisConfig says where Redis is. Parley works without it.
type RedisConfig struct {
	URL string `secret:"true"` // redis://:password@host:6379/0
}

// CacheConfig sets how recent entries are kept for devices that come back.
type CacheConfig struct {
	RingBytes   int64         // memory of this node for recent entries; 64 MiB
	RedisLength int           // entries of each session in Redis; 500
	RedisTTL    time.Duration // how long Redis keeps a session after its last entry; 24 h
	StateTTL    time.Duration // how long Redis keeps a user's message states of a session, the same on all nodes; 1 h; 0: not at all
}

// AuthConfig says whose tokens are good.
type AuthConfig struct {
	AdminKey    string `secret:"true"` // bearer of AdminService, at least 32 bytes; required
	AdminKeyOld string `secret:"true"` // a second one, while keys are changed
	JWKSURL     string // keys of the app's own issuer
	JWKSHTTP    bool   // permit a plain http JWKSURL beyond loopback, in a network where nobody can change what is on the wire
	JWKSFile    string // the same, from a file
	Issuer      string // iss of those tokens
	Audience    string // aud of all tokens; parley
	SigningKey  string // PEM file or folder with Parley's own keys for CreateToken; made if missing; empty: none
}

// StreamConfig sets how streams behave.
type StreamConfig struct {
	Heartbeat   time.Duration // silence after which a stream says that it lives; 20 s
	RoamBacklog int64         // entries of each session that a new device gets; 200
}

// RosterConfig sets the map of all relations that a node keeps in memory.
type RosterConfig struct {
	Mode  string // on or off; on. Off, every question about relations goes to PostgreSQL
	MaxMB int64  // memory that it may take, in MiB, about 20 to 45 bytes per membership; past it none is kept; 2048
}

// WebhookConfig sets webhooks. They are managed by AdminService.
type WebhookConfig struct {
	Key        string        `secret:"true"` // seals the webhooks' secrets in the database, 64 hexadecimal digits; empty: there can be no webhooks
	KeyOld     string        `secret:"true"` // a second one that opens them, while keys are changed
	AllowCIDRs []string      // addresses beside the public internet that webhooks may go to, such as 10.1.0.0/16; none
	AllowHTTP  bool          // permit plain http URLs, in a network where nobody can read what is on the wire
	LogTTL     time.Duration // how long deliveries are kept that do not wait; 168 h
	Backlog    int           // deliveries of one webhook that may wait; past it the webhook is disabled; 1000000
}

// ownIssuer is the iss of tokens that Parley mints itself.
const ownIssuer = "parley"

// Default returns the settings where nothing is set.
func Default() Config {
	return Config{
		Listen: "127.0.0.1:8080", AdminListen: "127.0.0.1:8081",
		Proxies: []string{"127.0.0.0/8", "::1"}, MaxConns: rpc.DefaultMaxConns, MaxConnsIP: rpc.DefaultMaxConnsIP,
		Rates:    rate.Defaults(),
		Postgres: PostgresConfig{MaxConns: 32, Wait: 30 * time.Second},
		Auth:     AuthConfig{Audience: "parley"},
		Stream:   StreamConfig{Heartbeat: 20 * time.Second, RoamBacklog: 200},
		Roster:   RosterConfig{Mode: "on", MaxMB: roster.DefaultMaxBytes >> 20},
		Cache:    CacheConfig{RingBytes: 64 << 20, RedisLength: 500, RedisTTL: 24 * time.Hour, StateTTL: time.Hour},
		DataDir:  ".data", MaxSessions: session.MaxSessions, Committers: 2, UnaryTimeout: 10 * time.Second, DrainTimeout: 15 * time.Second,
		DrainGrace: 3 * time.Second, LogLevel: "info",
		Webhook: WebhookConfig{LogTTL: 7 * 24 * time.Hour, Backlog: 1_000_000},
	}
}

// Flags adds a flag for every setting; what c holds are the defaults.
func (c *Config) Flags(f *pflag.FlagSet) {
	f.StringVar(&c.Listen, "listen", c.Listen, "address of the API")
	f.StringVar(&c.AdminListen, "admin-listen", c.AdminListen, "address of metrics, health and pprof; empty for none")
	f.StringVar(&c.TLSCert, "tls-cert", c.TLSCert, "PEM file with the certificate chain")
	f.StringVar(&c.TLSKey, "tls-key", c.TLSKey, "PEM file with the key")
	f.StringSliceVar(&c.CORSOrigins, "cors-origins", c.CORSOrigins, "exact origins whose pages may call, comma-separated")
	f.BoolVar(&c.Reflection, "reflection", c.Reflection, "offer gRPC reflection")
	f.StringSliceVar(&c.Proxies, "trusted-proxies", c.Proxies, "networks of load balancers in front of this node, whose X-Forwarded-For is believed")
	f.Int64Var(&c.MaxConns, "max-conns", c.MaxConns, "connections of this node; 0 for no bound")
	f.Int64Var(&c.MaxConnsIP, "max-conns-ip", c.MaxConnsIP, "connections of one IP address; 0 for no bound")
	for _, r := range rate.Rules() {
		f.Var(&c.Rates[r], "rate-"+r.String(), r.What()+": a rate and, behind a colon, how many at once; off for no bound")
	}
	f.StringVar(&c.Postgres.URL, "postgres-url", c.Postgres.URL, "where PostgreSQL is (secret)")
	f.IntVar(&c.Postgres.MaxConns, "postgres-max-conns", c.Postgres.MaxConns, "connections to PostgreSQL")
	f.DurationVar(&c.Postgres.Wait, "postgres-wait", c.Postgres.Wait, "how long the start waits for PostgreSQL")
	f.StringVar(&c.Redis.URL, "redis-url", c.Redis.URL, "where Redis is (secret); optional")
	f.StringVar(&c.Auth.AdminKey, "admin-key", c.Auth.AdminKey, "bearer of AdminService, at least 32 bytes (secret; prefer PARLEY_ADMIN_KEY)")
	f.StringVar(&c.Auth.AdminKeyOld, "admin-key-old", c.Auth.AdminKeyOld, "a second admin key, while keys are changed (secret)")
	f.StringVar(&c.Auth.JWKSURL, "jwks-url", c.Auth.JWKSURL, "key set of the app's own token issuer")
	f.BoolVar(&c.Auth.JWKSHTTP, "jwks-allow-http", c.Auth.JWKSHTTP, "permit plain http for --jwks-url beyond loopback")
	f.StringVar(&c.Auth.JWKSFile, "jwks-file", c.Auth.JWKSFile, "the same, from a file")
	f.StringVar(&c.Auth.Issuer, "token-issuer", c.Auth.Issuer, "iss of the app's own tokens")
	f.StringVar(&c.Auth.Audience, "token-audience", c.Auth.Audience, "aud of all tokens")
	f.StringVar(&c.Auth.SigningKey, "signing-key", c.Auth.SigningKey, "PEM file or folder with Parley's own signing keys, made if missing; without it CreateToken is refused")
	f.DurationVar(&c.Stream.Heartbeat, "heartbeat", c.Stream.Heartbeat, "silence after which a stream says that it lives")
	f.Int64Var(&c.Stream.RoamBacklog, "roam-backlog", c.Stream.RoamBacklog, "entries of each session that a new device gets")
	f.Int64Var(&c.Cache.RingBytes, "ring-bytes", c.Cache.RingBytes, "memory for recent entries")
	f.IntVar(&c.Cache.RedisLength, "redis-length", c.Cache.RedisLength, "entries of each session that Redis keeps")
	f.DurationVar(&c.Cache.RedisTTL, "redis-ttl", c.Cache.RedisTTL, "how long Redis keeps a session after its last entry")
	f.DurationVar(&c.Cache.StateTTL, "state-ttl", c.Cache.StateTTL, "how long Redis keeps a user's message states of a session; 0 for not at all")
	f.StringVar(&c.Roster.Mode, "roster", c.Roster.Mode, "whether to keep the map of all relations in memory: on or off")
	f.Int64Var(&c.Roster.MaxMB, "roster-max-mb", c.Roster.MaxMB, "MiB that the map of all relations may take; past it none is kept")
	f.StringVar(&c.Webhook.Key, "webhook-key", c.Webhook.Key, "seals the secrets of webhooks, 64 hexadecimal digits (secret; prefer PARLEY_WEBHOOK_KEY); without it there can be no webhooks")
	f.StringVar(&c.Webhook.KeyOld, "webhook-key-old", c.Webhook.KeyOld, "a second key that opens them, while keys are changed (secret)")
	f.StringSliceVar(&c.Webhook.AllowCIDRs, "webhook-allow-cidrs", c.Webhook.AllowCIDRs, "addresses beside the public internet that webhooks may go to, comma-separated, such as 10.1.0.0/16")
	f.BoolVar(&c.Webhook.AllowHTTP, "webhook-allow-http", c.Webhook.AllowHTTP, "permit plain http URLs for webhooks")
	f.DurationVar(&c.Webhook.LogTTL, "webhook-log-ttl", c.Webhook.LogTTL, "how long the log of webhooks' deliveries is kept")
	f.IntVar(&c.Webhook.Backlog, "webhook-backlog", c.Webhook.Backlog, "deliveries of one webhook that may wait; past it the webhook is disabled")
	f.StringVar(&c.DataDir, "data-dir", c.DataDir, "where keys, and the embedded databases of `parley run`, are kept")
	f.IntVar(&c.MaxSessions, "max-sessions", c.MaxSessions, "sessions that a user may be in, the same on all nodes")
	f.IntVar(&c.Committers, "committers", c.Committers, "group commits that run at the same time")
	f.DurationVar(&c.UnaryTimeout, "unary-timeout", c.UnaryTimeout, "bound on calls that are no streams")
	f.DurationVar(&c.DrainTimeout, "drain-timeout", c.DrainTimeout, "bound on the whole shutdown")
	f.DurationVar(&c.DrainGrace, "drain-grace", c.DrainGrace, "how long a node that is going down, and says so on /readyz, serves on before it ends streams and closes its listener; at most a third of --drain-timeout")
	f.StringVar(&c.LogLevel, "log-level", c.LogLevel, "debug, info, warn or error")
}

// FromEnv sets every flag that was not given from its environment variable.
func FromEnv(f *pflag.FlagSet) error {
	var errs []error
	f.VisitAll(func(flag *pflag.Flag) {
		name := "PARLEY_" + strings.ToUpper(strings.ReplaceAll(flag.Name, "-", "_"))
		value, set := os.LookupEnv(name)
		if !set || flag.Changed {
			return
		}
		if err := f.Set(flag.Name, value); err != nil {
			// The value is left out: it may be a secret.
			errs = append(errs, fmt.Errorf("%s does not hold a valid value for --%s", name, flag.Name))
		}
	})
	return errors.Join(errs...)
}

// Validate says what cannot work, all of it at once.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf(format, a...)) }
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		bad("PARLEY_LISTEN: %q is no address such as 127.0.0.1:8080", c.Listen)
	}
	if c.AdminListen != "" {
		if _, _, err := net.SplitHostPort(c.AdminListen); err != nil {
			bad("PARLEY_ADMIN_LISTEN: %q is no address such as 127.0.0.1:8081", c.AdminListen)
		}
	}
	if _, err := rpc.ParseProxies(c.Proxies); err != nil {
		bad("PARLEY_TRUSTED_PROXIES: %w", err)
	}
	if c.MaxConns < 0 || c.MaxConnsIP < 0 {
		bad("PARLEY_MAX_CONNS or PARLEY_MAX_CONNS_IP is negative; 0 is no bound")
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		bad("PARLEY_TLS_CERT and PARLEY_TLS_KEY go together")
	}
	if c.Postgres.URL == "" {
		bad("PARLEY_POSTGRES_URL is not set: Parley keeps everything in PostgreSQL (`parley run` brings its own)")
	}
	if c.Postgres.MaxConns < c.Committers+4 {
		bad("PARLEY_POSTGRES_MAX_CONNS: %d is less than the committers and 4 more need", c.Postgres.MaxConns)
	}
	if c.Redis.URL != "" { // else it would be found out after PostgreSQL had been waited for, and migrated
		if client, err := storage.OpenRedis(c.Redis.URL); err != nil {
			errs = append(errs, err)
		} else {
			_ = client.Close() // it has connected to nothing
		}
	}
	if n := len(c.Auth.AdminKey); n < auth.MinAPIKeyBytes {
		bad("PARLEY_ADMIN_KEY has %d bytes and needs at least %d: make one with `openssl rand -hex 32`", n, auth.MinAPIKeyBytes)
	}
	if c.Auth.JWKSURL != "" && c.Auth.JWKSFile != "" {
		bad("PARLEY_JWKS_URL and PARLEY_JWKS_FILE exclude each other")
	}
	jwks := c.Auth.JWKSURL != "" || c.Auth.JWKSFile != ""
	if jwks && (c.Auth.Issuer == "" || c.Auth.Issuer == ownIssuer) {
		bad("PARLEY_TOKEN_ISSUER must name the issuer of the key set, and not %q", ownIssuer)
	}
	if !jwks && c.Auth.SigningKey == "" {
		bad("nobody could sign in: set PARLEY_JWKS_URL, PARLEY_JWKS_FILE or PARLEY_SIGNING_KEY")
	}
	if c.Auth.Audience == "" {
		bad("PARLEY_TOKEN_AUDIENCE is empty")
	}
	for name, d := range map[string]time.Duration{"HEARTBEAT": c.Stream.Heartbeat, "UNARY_TIMEOUT": c.UnaryTimeout,
		"DRAIN_TIMEOUT": c.DrainTimeout, "POSTGRES_WAIT": c.Postgres.Wait} {
		if d <= 0 {
			bad("PARLEY_%s: %s is not positive", name, d)
		}
	}
	if c.DrainGrace < 0 {
		bad("PARLEY_DRAIN_GRACE: %s is negative", c.DrainGrace)
	}
	if c.Cache.RingBytes < 0 || c.Cache.RedisLength < 1 || c.Cache.RedisLength > 100_000 || c.Cache.RedisTTL < time.Second {
		bad("PARLEY_RING_BYTES, PARLEY_REDIS_LENGTH or PARLEY_REDIS_TTL: not 0 or more bytes, 1 to 100000 entries, a second or more")
	}
	if ttl := c.Cache.StateTTL; ttl != 0 && ttl < 10*time.Second {
		bad("PARLEY_STATE_TTL: %s is neither 0 nor 10s or more", ttl)
	}
	if c.Roster.Mode != "on" && c.Roster.Mode != "off" {
		bad("PARLEY_ROSTER: %q is neither on nor off", c.Roster.Mode)
	}
	if c.Roster.MaxMB < 1 || c.Roster.MaxMB > roster.MaxBytes>>20 {
		bad("PARLEY_ROSTER_MAX_MB: %d is not 1 to %d", c.Roster.MaxMB, roster.MaxBytes>>20)
	}
	if _, err := c.Webhook.sealer(); err != nil {
		errs = append(errs, err)
	}
	if c.Webhook.KeyOld != "" && c.Webhook.Key == "" {
		bad("PARLEY_WEBHOOK_KEY_OLD is set without PARLEY_WEBHOOK_KEY")
	}
	if _, err := webhook.ParseAddresses(c.Webhook.AllowCIDRs, c.Webhook.AllowHTTP); err != nil {
		bad("PARLEY_WEBHOOK_ALLOW_CIDRS: %w", err)
	}
	if c.Webhook.LogTTL < time.Hour || c.Webhook.Backlog < 1 || c.Webhook.Backlog > 100_000_000 {
		bad("PARLEY_WEBHOOK_LOG_TTL or PARLEY_WEBHOOK_BACKLOG: not an hour or more, 1 to 100000000 deliveries")
	}
	if c.MaxSessions < 1 || c.MaxSessions > session.MaxMaxSessions {
		bad("PARLEY_MAX_SESSIONS: %d is not 1 to %d", c.MaxSessions, session.MaxMaxSessions)
	}
	if c.Committers < 1 || c.Committers > 64 {
		bad("PARLEY_COMMITTERS: %d is not 1 to 64", c.Committers)
	}
	if _, err := c.level(); err != nil {
		bad("PARLEY_LOG_LEVEL: %q is none of debug, info, warn, error", c.LogLevel)
	}
	return errors.Join(errs...)
}

func (c Config) level() (l slog.Level, err error) {
	err = l.UnmarshalText([]byte(c.LogLevel))
	return l, err
}

// NewLogger returns the JSON logger of the program.
func (c Config) NewLogger(out *os.File) *slog.Logger {
	level, err := c.level()
	if err != nil {
		level = slog.LevelInfo
	}
	return slog.New(slog.NewJSONHandler(out, &slog.HandlerOptions{Level: level}))
}

// LogValue implements slog.LogValuer: the settings without the secrets, of which it only says whether they are set.
func (c Config) LogValue() slog.Value {
	is := func(s string) string { return strconv.FormatBool(s != "") }
	return slog.GroupValue(
		slog.String("listen", c.Listen), slog.String("admin_listen", c.AdminListen), slog.String("tls", is(c.TLSCert)),
		slog.Any("trusted_proxies", c.Proxies), slog.Int64("max_conns", c.MaxConns), slog.Int64("max_conns_ip", c.MaxConnsIP),
		slog.Any("rates", c.Rates), slog.Any("cors_origins", c.CORSOrigins), slog.Bool("reflection", c.Reflection),
		slog.String("postgres_set", is(c.Postgres.URL)), slog.Int("postgres_max_conns", c.Postgres.MaxConns),
		slog.String("redis_set", is(c.Redis.URL)), slog.String("jwks_set", is(c.Auth.JWKSURL+c.Auth.JWKSFile)),
		slog.String("token_issuer", c.Auth.Issuer), slog.String("token_audience", c.Auth.Audience),
		slog.String("signing_key_set", is(c.Auth.SigningKey)), slog.Duration("heartbeat", c.Stream.Heartbeat),
		slog.Int64("roam_backlog", c.Stream.RoamBacklog), slog.Int("committers", c.Committers),
		slog.String("roster", c.Roster.Mode), slog.Int64("roster_max_mb", c.Roster.MaxMB),
		slog.String("webhook_key_set", is(c.Webhook.Key)), slog.Any("webhook_allow_cidrs", c.Webhook.AllowCIDRs),
		slog.Bool("webhook_allow_http", c.Webhook.AllowHTTP))
}
