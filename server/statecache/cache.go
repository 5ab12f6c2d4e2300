package statecache

import (
	"context"
	"time"

	"github.com/parley-im/parley/server/state"
)

// Cache is Redis. All of its methods are one pipeline, end within half a second, and may fail: nothing depends on them. Of
// several servers some may fail: then Get has the zero Answer for what is there, and Fill and Forget a *breaker.PartError.
// Implemented by storage; safe for concurrent use.
type Cache interface {
	// Get looks keys up; an answer for each, in order. Values of maxAge or more count as missing; a negative maxAge lets
	// all count.
	Get(ctx context.Context, asks []Ask, maxAge time.Duration) ([]Answer, error)
	// Fill stores values whose leases are still there, and returns how many were stored.
	Fill(ctx context.Context, fills []Fill) (stored int, err error)
	// Forget deletes values and leases.
	Forget(ctx context.Context, keys []state.Key) error
}

// Ask looks a key up. Lease is the token to take where nothing is there. TakeOver is somebody else's lease as an Answer
// told it; it is replaced if it is still there.
type Ask struct {
	Key      state.Key
	Lease    string
	TakeOver string
}

// Answer is one of three: a Value, Leased to the asker, or somebody else's lease in Other.
type Answer struct {
	Value  string
	Leased bool
	Other  string
}

// Fill is a value that was read under a lease.
type Fill struct {
	Key   state.Key
	Lease string
	Value string
}
