// Command parley is the messaging backend and the tools around it.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/parley-im/parley/server/app"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := root().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "parley:", err)
		stop()
		os.Exit(1) //nolint:gocritic // stop has run
	}
}

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "parley",
		Short: "Messaging backend that an app embeds: direct and group chat, every device of every user",
		Long: `Parley keeps chat in PostgreSQL and delivers it to every device, in order, once.

To try it, on a machine with nothing but this program:
  parley run                        a server with its own PostgreSQL and Redis
  parley chat --as alice --with bob a terminal chat against it
  parley cluster                    three nodes behind a balancer, to kill one by one

In production:
  parley migrate up                 bring the schema up to date (serve does it too)
  parley serve                      a node; run as many as you like behind a balancer

Every flag is also an environment variable: --postgres-url is PARLEY_POSTGRES_URL.`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	cmd.AddCommand(serveCommand(), runCommand(), clusterCommand(), migrateCommand(), tokenCommand(), chatCommand(), doctorCommand(),
		simulateCommand(), benchCommand(), benchLimitCommand(), versionCommand())
	return cmd
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		Run:   func(cmd *cobra.Command, _ []string) { fmt.Fprintln(cmd.OutOrStdout(), "parley", app.Version) },
	}
}
