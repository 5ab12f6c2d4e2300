package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/parley-im/parley/server/app"
	"github.com/parley-im/parley/server/feed"
	"github.com/parley-im/parley/server/roster"
	"github.com/parley-im/parley/server/storage"
)

const (
	// doctorTries is how often a running node is compared while relations keep changing.
	doctorTries = 10
	// doctorPause lets the node's feed poll, which it does each second.
	doctorPause = 1500 * time.Millisecond
)

// errDiffers ends the program with 1.
var errDiffers = errors.New("the relation map differs from PostgreSQL: restart that node, and report this")

func doctorCommand() *cobra.Command {
	var url, admin string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Compare the relation map in memory with PostgreSQL",
		Long: `Checks that what nodes keep of relations in memory is what PostgreSQL has, by row counts and checksums per table:
first a map loaded afresh, then that of a running node through its admin listener. Reads all relations twice; changes
nothing. Exits with 1 when something differs or cannot be compared.`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().StringVar(&url, "postgres-url", "", "where PostgreSQL is (secret; prefer PARLEY_POSTGRES_URL)")
	cmd.Flags().StringVar(&admin, "admin-url", "http://127.0.0.1:8081", "a node's admin listener; empty: no node is asked")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := app.FromEnv(cmd.Flags()); err != nil {
			return err
		}
		if url == "" {
			return errors.New("PARLEY_POSTGRES_URL is not set")
		}
		pool, err := storage.OpenPool(cmd.Context(), url, 2)
		if err != nil {
			return err
		}
		defer pool.Close()
		d := doctor{cmd: cmd, store: storage.Roster{DB: storage.New(pool)}, admin: strings.TrimSuffix(admin, "/")}
		err = d.checkFresh(cmd.Context())
		if err == nil && admin != "" {
			err = d.checkNode(cmd.Context())
		}
		return err
	}
	return cmd
}

type doctor struct {
	cmd   *cobra.Command
	store roster.Store
	admin string
}

func (d *doctor) say(format string, args ...any) {
	fmt.Fprintf(d.cmd.OutOrStdout(), format+"\n", args...)
}

// checkFresh compares a map loaded now with the snapshot that it was loaded from.
func (d *doctor) checkFresh(ctx context.Context) error {
	memory, postgres, size, err := roster.Verify(ctx, d.store, roster.Config{})
	if err != nil {
		return err
	}
	d.say("loaded afresh (%d bytes):", size)
	return d.compare(memory, postgres)
}

// checkNode compares a running node's map with PostgreSQL. While relations change, the two are of different moments; so
// only a comparison counts during which PostgreSQL stayed as it was, and whose map has all from before it. Equal sums
// count always.
func (d *doctor) checkNode(ctx context.Context) error {
	for range doctorTries {
		before := time.Now()
		first, err := d.store.Scan(ctx, nil, true)
		if err != nil {
			return err
		}
		taken := time.Now()
		if err := pause(ctx, doctorPause); err != nil {
			return err
		}
		asked := time.Now()
		node, err := d.report(ctx)
		if err != nil {
			return err
		}
		last, err := d.store.Scan(ctx, nil, true)
		if err != nil {
			return err
		}
		asOf := asked.Add(-time.Duration(node.AgeSeconds * float64(time.Second)))
		switch {
		case node.Sums == nil:
			d.say("the node's map is not fresh now (loading, or its feed is behind): it answers from PostgreSQL")
		case *node.Sums == last || first == last && asOf.After(taken):
			d.say("map of the node at %s (%.1f s old, %d bytes; compared in %s):", d.admin, node.AgeSeconds, node.Bytes,
				time.Since(before).Round(time.Millisecond))
			return d.compare(*node.Sums, last)
		}
	}
	return fmt.Errorf("not compared in %d tries: the map was not fresh or relations kept changing; try again", doctorTries)
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

func (d *doctor) report(ctx context.Context) (report roster.Report, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.admin+"/debug/roster", http.NoBody)
	if err != nil {
		return report, fmt.Errorf("--admin-url: %w", err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return report, fmt.Errorf("ask the node (--admin-url): %w", err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode == http.StatusNotFound {
		return report, errors.New("the node keeps no relation map (PARLEY_ROSTER=off)")
	}
	if res.StatusCode != http.StatusOK {
		return report, fmt.Errorf("ask the node: %s", res.Status)
	}
	if err := json.NewDecoder(res.Body).Decode(&report); err != nil {
		return report, fmt.Errorf("read the node's answer: %w", err)
	}
	return report, nil
}

// compare prints a line per table and fails if one differs.
func (d *doctor) compare(memory, postgres roster.Sums) error {
	for _, table := range []struct {
		name string
		kind feed.RelationKind
	}{
		{"app_user", feed.User}, {"user_to_user", feed.UserToUser}, {"user_to_device", feed.UserToDevice},
		{"user_to_session", feed.UserToSession},
	} {
		have, want := *memory.Of(table.kind), *postgres.Of(table.kind)
		if have == want {
			d.say("  %-16s equal    %d rows, %016x", table.name, want.Rows, want.Hash)
			continue
		}
		d.say("  %-16s DIFFERS  map: %d rows, %016x; PostgreSQL: %d rows, %016x", table.name, have.Rows, have.Hash, want.Rows, want.Hash)
	}
	if memory != postgres {
		return errDiffers
	}
	return nil
}
