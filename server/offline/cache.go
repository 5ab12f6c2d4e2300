package offline

import (
	"context"

	"github.com/google/uuid"

	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/wire"
)

// Cache is the tier between memory and PostgreSQL: Redis. All of its methods end within half a second, and all of them
// may fail: nothing depends on them. Implemented by storage; safe for concurrent use.
type Cache interface {
	// Read returns what the cache has of each range: all of its entries, in order, or none.
	Read(ctx context.Context, ranges []message.Range) ([]Cached, error)
	// Append stores entries.
	Append(ctx context.Context, batches []Batch) error
	// Drop forgets sessions, and makes Append refuse what was read of them before.
	Drop(ctx context.Context, ids []uuid.UUID) error
	// Ping reports whether the cache answers and takes writes.
	Ping(ctx context.Context) error
}

// Cached is what the cache has of a range. Generation stands for the session's recalls so far; it is told with a miss too,
// for the Append that repairs it.
type Cached struct {
	Generation string
	Entries    []*wire.Entry
}

// Batch is entries of one session, ascending. With a Generation they are stored only while it is the present one.
type Batch struct {
	Generation string
	Entries    []*wire.Entry
}
