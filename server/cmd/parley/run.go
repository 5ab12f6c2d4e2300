package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/parley-im/parley/server/app"
	"github.com/parley-im/parley/server/dev"
)

func runCommand() *cobra.Command {
	cfg := app.Default()
	cfg.Reflection = true
	cfg.LogLevel = "warn"
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run a node for development, with its own PostgreSQL and Redis",
		Long: `Starts a real PostgreSQL and a Redis by itself unless PARLEY_POSTGRES_URL and PARLEY_REDIS_URL name others, makes and
keeps an admin key and a signing key, serves, and prints two ready logins. Everything is kept in PARLEY_DATA_DIR
(.data): delete it to start afresh. For production use serve.`,
		Args: cobra.NoArgs,
	}
	cfg.Flags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := app.FromEnv(cmd.Flags()); err != nil {
			return err
		}
		return runDev(cmd, cfg)
	}
	return cmd
}

func runDev(cmd *cobra.Command, cfg app.Config) (err error) {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	log := cfg.NewLogger(os.Stderr)
	if cfg.DataDir, err = filepath.Abs(cfg.DataDir); err != nil {
		return err
	}
	if err := os.MkdirAll(cfg.DataDir, 0o755); err != nil { //nolint:gosec // PostgreSQL's own user goes through it; the keys are 0600
		return err
	}
	note := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
	if cfg.Postgres.URL == "" {
		fmt.Fprintln(out, "Starting PostgreSQL ...")
		pg, err := dev.StartPostgres(ctx, dev.PostgresOptions{DataDir: cfg.DataDir, Log: log})
		if err != nil {
			return err
		}
		defer stopWithin(pg.Stop)
		cfg.Postgres.URL = pg.URL()
	}
	if cfg.Redis.URL == "" {
		rd, err := dev.StartRedis(ctx, dev.RedisOptions{DataDir: cfg.DataDir, Log: log})
		if err != nil {
			return err
		}
		defer stopWithin(rd.Stop)
		cfg.Redis.URL = rd.URL()
		if rd.Kind() == "in-process" {
			note.Info("no redis-server on this machine: using an in-process stand-in, which is fine for one node")
		}
	}
	keyFile := filepath.Join(cfg.DataDir, "admin.key")
	if cfg.Auth.AdminKey == "" {
		if cfg.Auth.AdminKey, err = secretFile(keyFile); err != nil {
			return err
		}
	}
	if cfg.Auth.SigningKey == "" && cfg.Auth.JWKSURL == "" && cfg.Auth.JWKSFile == "" {
		cfg.Auth.SigningKey = filepath.Join(cfg.DataDir, "signing.pem")
	}
	a, err := app.New(ctx, cfg, log)
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- a.Run(running) }()
	base := "http://" + a.Addr()
	if cfg.TLSCert != "" || cfg.Auth.SigningKey == "" {
		// Whose names the certificate has, and who issues tokens, is the user's own affair then.
		fmt.Fprintf(out, "\nParley serves at %s, admin key in %s\n", a.Addr(), keyFile)
	} else {
		if err := welcome(ctx, cmd, base, cfg.Auth.AdminKey, keyFile, a.AdminAddr()); err != nil {
			stop()
			return errors.Join(err, <-done)
		}
	}
	return <-done
}

// welcome prints where to look and two logins.
func welcome(ctx context.Context, cmd *cobra.Command, base, key, keyFile, ops string) error {
	tokens := make(map[string]string, 2)
	for _, user := range []string{"alice", "bob"} {
		token, err := mint(ctx, base, key, user, "terminal", 24*time.Hour)
		if err != nil {
			return fmt.Errorf("make a login for %s: %w", user, err)
		}
		tokens[user] = token
	}
	out := cmd.OutOrStdout()
	fmt.Fprintf(out, `
Parley serves at %s
  health, metrics    http://%s/readyz /metrics
  admin key          in %s

Two logins, good for 24 hours:
  export ALICE=%s
  export BOB=%s

Say something as alice, then look as bob:
  curl -s %s/parley.v1.MessageService/SendMessage -H "Authorization: Bearer $ALICE" -H 'Content-Type: application/json' \
    -d '{"peerUserId":"bob","messageId":"'$(cat /proc/sys/kernel/random/uuid)'","content":{"text":{"body":"hi bob"}}}'
  curl -sN %s/v1/subscribe -H "Authorization: Bearer $BOB"
Or in two terminals:
  bin/parley chat --as alice --with bob
  bin/parley chat --as bob --with alice
`, base, ops, keyFile, tokens["alice"], tokens["bob"], base, base)
	return nil
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
