package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/parley-im/parley/server/cmd/parley/simulate"
)

func simulateCommand() *cobra.Command {
	use := simulate.TypicalUse()
	devices := []uint{1_000_000, 10_000_000, 100_000_000}
	cmd := &cobra.Command{
		Use:   "simulate",
		Short: "Do the sum of what a number of devices asks of nodes, PostgreSQL and Redis",
		Long: `Prints the table of docs/scaling.md for devices and use of your own. It multiplies costs that were measured one by
one; it runs nothing.`,
		Args: cobra.NoArgs,
	}
	f := cmd.Flags()
	f.UintSliceVar(&devices, "devices", devices, "numbers of devices, comma-separated")
	f.Float64Var(&use.DevicesPerUser, "devices-per-user", use.DevicesPerUser, "devices that a user has")
	f.Float64Var(&use.Online, "online", use.Online, "share of the devices that have a stream")
	f.Float64Var(&use.Memberships, "memberships", use.Memberships, "sessions that a user is in")
	f.Float64Var(&use.Members, "members", use.Members, "members of a session")
	f.Float64Var(&use.SentPerDay, "sent-per-day", use.SentPerDay, "messages that a user sends in a day")
	f.Float64Var(&use.Peak, "peak", use.Peak, "how many times the average the busiest minutes have")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if use.DevicesPerUser < 1 || use.Online < 0 || use.Online > 1 || use.Memberships < 0 || use.Members < 1 || use.SentPerDay < 0 || use.Peak < 1 {
			return errors.New("--devices-per-user, --members and --peak are 1 or more, --online is 0 to 1, nothing is negative")
		}
		var sums []simulate.Sum
		for _, n := range devices {
			sums = append(sums, simulate.Of(float64(n), use))
		}
		fmt.Fprint(cmd.OutOrStdout(), simulate.Table(sums...))
		return nil
	}
	return cmd
}
