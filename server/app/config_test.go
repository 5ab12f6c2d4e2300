package app

import (
	"bytes"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
)

func good() Config {
	c := Default()
	c.Postgres.URL = "postgres://parley:very-secret@db/parley"
	c.Auth.AdminKey = strings.Repeat("k", 32)
	c.Auth.SigningKey = "signing.pem"
	return c
}

func TestFlagsAndEnvironment(t *testing.T) {
	c := Default()
	f := pflag.NewFlagSet("test", pflag.ContinueOnError)
	c.Flags(f)
	t.Setenv("PARLEY_LISTEN", "0.0.0.0:1")
	t.Setenv("PARLEY_UNARY_TIMEOUT", "3s")
	t.Setenv("PARLEY_CORS_ORIGINS", "https://a.example,https://b.example")
	t.Setenv("PARLEY_POSTGRES_URL", "postgres://from-env")
	require.NoError(t, f.Parse([]string{"--postgres-url", "postgres://from-flag"}))
	require.NoError(t, FromEnv(f))
	require.Equal(t, "0.0.0.0:1", c.Listen)
	require.Equal(t, 3*time.Second, c.UnaryTimeout)
	require.Equal(t, []string{"https://a.example", "https://b.example"}, c.CORSOrigins)
	require.Equal(t, "postgres://from-flag", c.Postgres.URL, "a flag wins")

	t.Setenv("PARLEY_COMMITTERS", "very-secret")
	err := FromEnv(f)
	require.ErrorContains(t, err, "PARLEY_COMMITTERS")
	require.NotContains(t, err.Error(), "very-secret")
}

func TestValidate(t *testing.T) {
	require.NoError(t, good().Validate())
	for name, c := range map[string]struct {
		change func(*Config)
		says   string
	}{
		"listen":       {func(c *Config) { c.Listen = "8080" }, "PARLEY_LISTEN"},
		"admin listen": {func(c *Config) { c.AdminListen = "x" }, "PARLEY_ADMIN_LISTEN"},
		"half of TLS":  {func(c *Config) { c.TLSCert = "cert.pem" }, "PARLEY_TLS_KEY"},
		"no database":  {func(c *Config) { c.Postgres.URL = "" }, "PARLEY_POSTGRES_URL"},
		"few conns":    {func(c *Config) { c.Postgres.MaxConns = 4 }, "PARLEY_POSTGRES_MAX_CONNS"},
		"no Redis":     {func(c *Config) { c.Redis.URL = "redis://:very-secret@host:port/0" }, "PARLEY_REDIS_URL"},
		"no master":    {func(c *Config) { c.Redis.URL = "redis+sentinel://:very-secret@host" }, "PARLEY_REDIS_URL"},
		"short key":    {func(c *Config) { c.Auth.AdminKey = strings.Repeat("k", 31) }, "PARLEY_ADMIN_KEY"},
		"no key":       {func(c *Config) { c.Auth.AdminKey = "" }, "PARLEY_ADMIN_KEY"},
		"two key sets": {func(c *Config) { c.Auth.JWKSURL, c.Auth.JWKSFile, c.Auth.Issuer = "u", "f", "i" }, "exclude"},
		"no issuer":    {func(c *Config) { c.Auth.JWKSURL = "https://keys" }, "PARLEY_TOKEN_ISSUER"},
		"own issuer":   {func(c *Config) { c.Auth.JWKSURL, c.Auth.Issuer = "https://keys", ownIssuer }, "PARLEY_TOKEN_ISSUER"},
		"no tokens":    {func(c *Config) { c.Auth.SigningKey = "" }, "PARLEY_SIGNING_KEY"},
		"no audience":  {func(c *Config) { c.Auth.Audience = "" }, "PARLEY_TOKEN_AUDIENCE"},
		"no heartbeat": {func(c *Config) { c.Stream.Heartbeat = 0 }, "PARLEY_HEARTBEAT"},
		"no time":      {func(c *Config) { c.UnaryTimeout = -1 }, "PARLEY_UNARY_TIMEOUT"},
		"no grace":     {func(c *Config) { c.DrainGrace = -1 }, "PARLEY_DRAIN_GRACE"},
		"committers":   {func(c *Config) { c.Committers = 0 }, "PARLEY_COMMITTERS"},
		"log level":    {func(c *Config) { c.LogLevel = "loud" }, "PARLEY_LOG_LEVEL"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := good()
			c.change(&cfg)
			err := cfg.Validate()
			require.ErrorContains(t, err, c.says)
			require.NotContains(t, err.Error(), "very-secret")
		})
	}
	var nothing Config
	err := nothing.Validate()
	require.ErrorContains(t, err, "PARLEY_ADMIN_KEY")
	require.ErrorContains(t, err, "PARLEY_POSTGRES_URL", "all that is wrong is said at once")
}

// Whatever is marked as secret must not be in the log, under no log level.
func TestSecretsAreNotLogged(t *testing.T) {
	c := good()
	secrets := 0
	fill(reflect.ValueOf(&c).Elem(), &secrets)
	require.GreaterOrEqual(t, secrets, 4)
	var out bytes.Buffer
	slog.New(slog.NewJSONHandler(&out, nil)).Info("starting", "settings", c)
	require.Contains(t, out.String(), "listen")
	require.NotContains(t, out.String(), "secret-number-")
}

// fill puts a text that can be found into every secret.
func fill(v reflect.Value, n *int) {
	for i := range v.NumField() {
		field, tag := v.Field(i), v.Type().Field(i).Tag.Get("secret")
		switch {
		case field.Kind() == reflect.Struct:
			fill(field, n)
		case tag == "true":
			*n++
			field.SetString(fmt.Sprintf("secret-number-%d", *n))
		}
	}
}
