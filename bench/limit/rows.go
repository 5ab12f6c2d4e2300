package limit

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"

	"github.com/parley-im/parley/bench/latency"
	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

var (
	//go:embed sql/make.sql
	makeSQL string
	//go:embed sql/insert.sql
	insertSQL string
	//go:embed sql/drop.sql
	dropSQL string
	//go:embed sql/read.sql
	readSQL string
)

// Rows inserts bare rows. Make makes its table, Drop removes it.
type Rows struct {
	URL string
	// Sessions is over how many sessions the rows are spread.
	Sessions int
}

// Inserted says how fast rows went in.
type Inserted struct {
	Rows    int64
	Elapsed time.Duration
	Latency latency.Summary
}

// Rate is rows per second.
func (i Inserted) Rate() float64 { return float64(i.Rows) / i.Elapsed.Seconds() }

// Make makes an empty table like msg.
func (r Rows) Make(ctx context.Context) error { return r.exec(ctx, makeSQL) }

// Drop removes the table.
func (r Rows) Drop(ctx context.Context) error { return r.exec(ctx, dropSQL) }

func (r Rows) exec(ctx context.Context, sql string) error {
	conn, err := pgx.Connect(ctx, r.URL)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, sql)
	return errors.Join(err, conn.Close(ctx))
}

// Insert inserts over conns connections for the given time, batch rows by one statement that is a transaction of its own.
func (r Rows) Insert(ctx context.Context, conns, batch int, warmup, d time.Duration) (Inserted, error) {
	rec := latency.NewRecorder()
	begin := time.Now().Add(warmup)
	end := begin.Add(d)
	// As long as nothing is recorded, nothing is counted.
	on := time.AfterFunc(warmup, rec.Begin)
	defer on.Stop()
	errs := make([]error, conns)
	var all sync.WaitGroup
	for i := range conns {
		all.Go(func() { errs[i] = r.insert(ctx, i, conns, batch, end, rec) })
	}
	all.Wait()
	s := rec.End()
	return Inserted{Rows: s.Count, Elapsed: time.Since(begin), Latency: s}, errors.Join(errs...)
}

// insert is one connection, with sessions of its own so that seqs never meet.
func (r Rows) insert(ctx context.Context, who, conns, batch int, end time.Time, rec *latency.Recorder) error {
	conn, err := pgx.Connect(ctx, r.URL)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // nothing is left to send
	b := newBatch(max(1, r.Sessions/conns), batch)
	for time.Now().Before(end) {
		b.fill(who)
		began := time.Now()
		if _, err := conn.Exec(ctx, insertSQL, b.sessions, b.seqs, b.msgs, b.users, b.devices, b.contents, b.digests, began); err != nil {
			return fmt.Errorf("insert rows: %w", err)
		}
		rec.Record(who, time.Since(began), int64(batch))
	}
	return nil
}

// batch is the columns of the next rows.
type batch struct {
	ids   []uuid.UUID
	heads []int64

	sessions, msgs []uuid.UUID
	seqs, digests  []int64
	users, devices []string
	contents       [][]byte
}

func newBatch(sessions, rows int) *batch {
	b := &batch{ids: make([]uuid.UUID, sessions), heads: make([]int64, sessions),
		sessions: make([]uuid.UUID, rows), msgs: make([]uuid.UUID, rows), seqs: make([]int64, rows), digests: make([]int64, rows),
		users: make([]string, rows), devices: make([]string, rows), contents: make([][]byte, rows)}
	for i := range b.ids {
		b.ids[i] = uuid.New()
	}
	return b
}

func (b *batch) fill(who int) {
	body := strings.Repeat("x", bodyBytes)
	content, err := proto.Marshal(&parleyv1.Message{Content: &parleyv1.Content{Kind: &parleyv1.Content_Text{Text: &parleyv1.Text{Body: body}}}})
	if err != nil {
		return // only invalid UTF-8 fails
	}
	user := fmt.Sprintf("bench-000000-w1-s%d", who)
	for i := range b.seqs {
		at := rand.IntN(len(b.ids)) //nolint:gosec // spreads load
		b.heads[at]++
		b.sessions[i], b.seqs[i], b.msgs[i] = b.ids[at], b.heads[at], newID()
		b.users[i], b.devices[i], b.contents[i], b.digests[i] = user, "d0", content, rand.Int64() //nolint:gosec // spreads load
	}
}

func newID() uuid.UUID {
	id, err := uuid.NewV7()
	if err != nil {
		return uuid.New()
	}
	return id
}

// Range is what a device lacks of a session: (From, To].
type Range struct {
	Session  uuid.UUID
	From, To int64
}

// Read reads the entries of one device's ranges by one query and counts them.
func Read(ctx context.Context, conn *pgx.Conn, ranges []Range) (n int, err error) {
	ids, from, to := make([]uuid.UUID, len(ranges)), make([]int64, len(ranges)), make([]int64, len(ranges))
	for i, r := range ranges {
		ids[i], from[i], to[i] = r.Session, r.From, r.To
	}
	rows, err := conn.Query(ctx, readSQL, ids, from, to)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for rows.Next() {
		n++ // RawValues would be the bytes: the driver has read them whole
	}
	return n, rows.Err()
}
