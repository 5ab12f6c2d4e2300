package dev

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// ErrNoBaseBackup means that this machine's PostgreSQL comes without pg_basebackup, which copies a running server.
var ErrNoBaseBackup = errors.New("pg_basebackup is missing: install PostgreSQL's client programs " +
	"(Debian: apt-get install postgresql-client) beside postgres")

// StartStandby starts a hot standby of a running server: its data is a copy of primary's, kept up by streaming
// replication, asynchronously. For tests of what happens when it is promoted. o is as for StartPostgres; URLs, database
// and password are as primary's, but for the port. ErrNoBaseBackup where that cannot be done.
func StartStandby(ctx context.Context, primary *Postgres, o PostgresOptions) (*Postgres, error) {
	if _, err := os.Stat(primary.binaries.command("pg_basebackup")); err != nil {
		return nil, ErrNoBaseBackup
	}
	return startPostgres(ctx, o, primary)
}

// baseBackup copies primary's data to dir, with the settings that make a standby of it.
func (p *Postgres) baseBackup(ctx context.Context, dir string) error {
	return p.runOnce(ctx, "pg_basebackup", "--pgdata="+dir, "--host="+p.primary.sockets,
		fmt.Sprintf("--port=%d", p.primary.port), "--username="+pgUser, "--wal-method=stream", "--checkpoint=fast",
		"--write-recovery-conf")
}
