package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/parley-im/parley/server/app"
)

// devUsers have a login that is ready.
var devUsers = []string{"alice", "bob"}

func runCommand() *cobra.Command {
	cfg := app.Default()
	cfg.Reflection = true
	cfg.LogLevel = "warn"
	cfg.DrainGrace = 0 // nothing balances it
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

func runDev(cmd *cobra.Command, cfg app.Config) error {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	log := cfg.NewLogger(os.Stderr)
	keyFile, stopServices, err := bring(ctx, out, &cfg, log)
	if err != nil {
		return err
	}
	defer stopServices()
	if cfg.Auth.SigningKey != "" {
		cfg.DevLogins = devUsers
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
	for _, user := range devUsers {
		token, err := mint(ctx, base, key, user, "terminal", 24*time.Hour)
		if err != nil {
			return fmt.Errorf("make a login for %s: %w", user, err)
		}
		tokens[user] = token
	}
	out := cmd.OutOrStdout()
	fmt.Fprintf(out, `
Parley serves at %s
  chat in a browser  %s/#as=alice %s/#as=bob
  watch the stream   %s/inspect, try the API: %s/docs
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
`, base, base, base, base, base, ops, keyFile, tokens["alice"], tokens["bob"], base, base)
	return nil
}
