package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/parley-im/parley/db"
	"github.com/parley-im/parley/server/app"
)

func migrateCommand() *cobra.Command {
	var url string
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Look after the schema of the database",
		Long: `Migrations are built into this program and run under a lock, so that several nodes may start at once. serve brings the
schema up by itself; use migrate up before a rolling update if its rights on the database do not allow that.`,
	}
	cmd.PersistentFlags().StringVar(&url, "postgres-url", "", "where PostgreSQL is (secret; prefer PARLEY_POSTGRES_URL)")
	sub := func(use, short string, run func(*cobra.Command) error) *cobra.Command {
		return &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
			if err := app.FromEnv(cmd.InheritedFlags()); err != nil {
				return err
			}
			if url == "" {
				return errors.New("PARLEY_POSTGRES_URL is not set")
			}
			return run(cmd)
		}}
	}
	status := func(cmd *cobra.Command) error {
		current, newest, err := db.Version(cmd.Context(), url)
		if err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "schema version %d, this program brings %d\n", current, newest)
		return nil
	}
	var sure bool
	down := sub("down", "Take back the newest migration, with the data that it holds", func(cmd *cobra.Command) error {
		if !sure {
			return errors.New("this deletes data: say --yes if that is meant")
		}
		current, _, err := db.Version(cmd.Context(), url)
		if err != nil {
			return err
		}
		if current == 0 {
			return errors.New("there is nothing to take back")
		}
		if err := db.MigrateDown(cmd.Context(), url, current-1); err != nil {
			return err
		}
		return status(cmd)
	})
	down.Flags().BoolVar(&sure, "yes", false, "delete the data")
	cmd.AddCommand(
		sub("up", "Bring the schema up to date", func(cmd *cobra.Command) error {
			if err := db.Migrate(cmd.Context(), url); err != nil {
				return err
			}
			return status(cmd)
		}),
		down, sub("status", "Print the version of the schema", status))
	return cmd
}
