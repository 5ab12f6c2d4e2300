package offline

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/parley-im/parley/server/breaker"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/wire"
)

// Cache is the tier between memory and PostgreSQL: Redis. All of its methods end within half a second, but for Append, of
// which that is true for each part that it does at once, and all of them may fail: nothing depends on them. A cache of several
// servers does what it can: what of a Read, an Append or a Drop is on a server that fails is missing, or named by a
// *breaker.PartError. Implemented by storage; safe for concurrent use.
type Cache interface {
	// Read returns what the cache has of each range: all of its entries, in order, or none.
	Read(ctx context.Context, ranges []message.Range) ([]Cached, error)
	// Append stores entries in order, or, where it failed, may still store the next of them within AppendLateness.
	Append(ctx context.Context, batches []Batch) error
	// Drop forgets sessions, and voids their leases.
	Drop(ctx context.Context, ids []uuid.UUID) error
	// Clear forgets every session of the log's present life, and voids all leases. It takes longer than half a second where
	// there are many.
	Clear(ctx context.Context) error
	// Life names the log's present life. Entries of another one are kept apart: it gives the same seqs to other entries.
	Life() string
	// Ping reports whether the cache answers and takes writes; of several servers whether it is known what is on which.
	Ping(ctx context.Context) error
	// Parts are the cache's servers; nil where there is one.
	Parts() breaker.Parts
}

// AppendLateness bounds how late an Append that was given up may still take effect.
const AppendLateness = 2 * time.Second

// Cached is what the cache has of a range: Entries; or, where it lacks some, a Lease for the Append that repairs it (empty
// where none was given). Broken means that what it has cannot be so, and is to be forgotten.
type Cached struct {
	Entries []*wire.Entry
	Lease   string
	Broken  bool
}

// Batch is entries of one session, ascending and without holes. With a Lease they are stored only while it holds: it is
// void once the session was dropped, or the cache has lost what it held. Life is the log's life that they are of: a batch
// may wait while the log goes over to another one. Empty is the present life.
type Batch struct {
	Lease   string
	Life    string
	Entries []*wire.Entry
}
