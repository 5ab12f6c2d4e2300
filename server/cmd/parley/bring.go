package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/parley-im/parley/server/app"
	"github.com/parley-im/parley/server/dev"
)

// bring starts what cfg names no other for, PostgreSQL and Redis, makes and keeps the keys in the data dir, and sets cfg to
// all of it. It returns where the admin key is kept, and what stops the services again.
func bring(ctx context.Context, out io.Writer, cfg *app.Config, log *slog.Logger) (keyFile string, stop func(), err error) {
	var stops []func(context.Context) error
	stop = func() {
		for i := len(stops) - 1; i >= 0; i-- {
			stopWithin(stops[i])
		}
	}
	defer func() {
		if err != nil {
			stop()
		}
	}()
	if cfg.DataDir, err = filepath.Abs(cfg.DataDir); err != nil {
		return "", nil, err
	}
	if err := os.MkdirAll(cfg.DataDir, 0o755); err != nil { //nolint:gosec // PostgreSQL's own user goes through it; the keys are 0600
		return "", nil, err
	}
	if cfg.Postgres.URL == "" {
		fmt.Fprintln(out, "Starting PostgreSQL ...")
		pg, err := dev.StartPostgres(ctx, dev.PostgresOptions{DataDir: cfg.DataDir, Log: log})
		if err != nil {
			return "", nil, err
		}
		stops = append(stops, pg.Stop)
		cfg.Postgres.URL = pg.URL()
	}
	if cfg.Redis.URL == "" {
		rd, err := dev.StartRedis(ctx, dev.RedisOptions{DataDir: cfg.DataDir, Log: log})
		if err != nil {
			return "", nil, err
		}
		stops = append(stops, rd.Stop)
		cfg.Redis.URL = rd.URL()
		if rd.Kind() == "in-process" {
			note := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
			note.InfoContext(ctx, "no redis-server on this machine: using an in-process stand-in, which is fine for one node")
		}
	}
	keyFile = filepath.Join(cfg.DataDir, "admin.key")
	if cfg.Auth.AdminKey == "" {
		if cfg.Auth.AdminKey, err = secretFile(keyFile); err != nil {
			return "", nil, err
		}
	}
	if cfg.Webhook.Key == "" {
		if cfg.Webhook.Key, err = secretFile(filepath.Join(cfg.DataDir, "webhook.key")); err != nil {
			return "", nil, err
		}
	}
	if len(cfg.Webhook.AllowCIDRs) == 0 { // receivers are tried on the same machine
		cfg.Webhook.AllowCIDRs, cfg.Webhook.AllowHTTP = []string{"127.0.0.0/8", "::1/128"}, true
	}
	if cfg.Auth.SigningKey == "" && cfg.Auth.JWKSURL == "" && cfg.Auth.JWKSFile == "" {
		cfg.Auth.SigningKey = filepath.Join(cfg.DataDir, "signing.pem")
	}
	return keyFile, stop, nil
}

func stopWithin(stop func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	if err := stop(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "parley:", err)
	}
}

// secretFile returns the secret in a file that only its owner may read, and makes both if missing.
func secretFile(path string) (string, error) {
	b, err := os.ReadFile(path) //nolint:gosec // the path is the operator's
	if err == nil {
		return strings.TrimSpace(string(b)), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	raw := make([]byte, 32)
	_, _ = rand.Read(raw) // never fails: the program would end
	secret := hex.EncodeToString(raw)
	return secret, os.WriteFile(path, []byte(secret+"\n"), 0o600)
}
