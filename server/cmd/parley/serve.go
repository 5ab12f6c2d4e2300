package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/parley-im/parley/server/app"
)

func serveCommand() *cobra.Command {
	cfg := app.Default()
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run a node in production",
		Long: `Runs a node of Parley against an existing PostgreSQL (and Redis, where there is one).

Needs PARLEY_POSTGRES_URL, PARLEY_ADMIN_KEY (at least 32 bytes; openssl rand -hex 32) and keys for tokens: either
PARLEY_JWKS_URL or PARLEY_JWKS_FILE with PARLEY_TOKEN_ISSUER for tokens of your own, or PARLEY_SIGNING_KEY so that
AdminService.CreateToken can mint them. There are no default secrets: what is missing stops the start.

SIGTERM drains: streams end with a hint when to come back, running calls and waiting sends finish.`,
		Args: cobra.NoArgs,
	}
	cfg.Flags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := app.FromEnv(cmd.Flags()); err != nil {
			return err
		}
		defer pace()()
		defer giveBack()()
		a, err := app.New(cmd.Context(), cfg, cfg.NewLogger(os.Stderr))
		if err != nil {
			return err
		}
		return a.Run(cmd.Context())
	}
	return cmd
}
