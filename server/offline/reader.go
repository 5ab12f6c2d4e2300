// Package offline reads ranges of the log back, for devices that were away and for streams that fell behind.
//
// The proof that a range is whole is arithmetic: seqs have no holes, so (from, to] is complete only if it has to-from
// entries, the first of them from+1 and the last to. Whatever a source returns is held against that before anybody sees
// it; to must be a head learnt from PostgreSQL.
package offline

import (
	"context"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/wire"
)

// Source is a tier that entries are read from.
type Source interface {
	// ListRanges returns what the tier has of each range, ascending by seq.
	ListRanges(ctx context.Context, ranges []message.Range) ([][]message.Entry, error)
}

// Reader reads ranges from PostgreSQL. Safe for concurrent use.
type Reader struct {
	postgres Source
	entries  *prometheus.CounterVec
}

// NewReader returns a reader; reg may be nil.
func NewReader(postgres Source, reg prometheus.Registerer) *Reader {
	r := &Reader{postgres: postgres, entries: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "parley_read_entries_total", Help: "Entries read back, by the tier that had them."}, []string{"tier"})}
	if reg != nil {
		reg.MustRegister(r.entries)
	}
	return r
}

// IncompleteError says that a tier did not have all of a range that must exist.
type IncompleteError struct {
	Range message.Range
	Got   int
}

func (e *IncompleteError) Error() string {
	return fmt.Sprintf("session %s: %d of the entries after %d up to %d", e.Range.SessionID, e.Got, e.Range.From, e.Range.To)
}

// Entries returns all entries of each range, in order. An entry whose body cannot be decoded comes without it. The error
// is an *IncompleteError when PostgreSQL lacks entries.
func (r *Reader) Entries(ctx context.Context, ranges []message.Range) ([][]message.Entry, error) {
	found, err := r.postgres.ListRanges(ctx, ranges)
	if err != nil {
		return nil, err
	}
	for i, want := range ranges {
		if !Complete(want, found[i]) {
			return nil, &IncompleteError{Range: want, Got: len(found[i])}
		}
		for n, e := range found[i] {
			if !wire.ValidBody(e.Body) {
				found[i][n].Body = nil
			}
		}
		r.entries.WithLabelValues("postgres").Add(float64(len(found[i])))
	}
	return found, nil
}

// Read is Entries, encoded.
func (r *Reader) Read(ctx context.Context, ranges []message.Range) ([][]*wire.Entry, error) {
	found, err := r.Entries(ctx, ranges)
	if err != nil {
		return nil, err
	}
	out := make([][]*wire.Entry, len(found))
	for i, entries := range found {
		out[i] = make([]*wire.Entry, len(entries))
		for n, e := range entries {
			out[i][n] = wire.Encode(e)
		}
	}
	return out, nil
}

// Complete reports whether entries are exactly those of the range.
func Complete(want message.Range, entries []message.Entry) bool {
	if int64(len(entries)) != want.To-want.From {
		return false
	}
	for i, e := range entries {
		if e.Seq != want.From+1+int64(i) || e.SessionID != want.SessionID {
			return false
		}
	}
	return true
}
