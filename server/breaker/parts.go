package breaker

import (
	"context"
	"fmt"
)

// Parts is a cache that is spread over several servers, each of which is left alone by itself. Safe for concurrent use.
type Parts interface {
	// Run probes the servers that are left alone, until ctx ends.
	Run(ctx context.Context)
	// Serves reports whether any server is asked.
	Serves() bool
	// Lefts is how often a server was left alone.
	Lefts() uint64
	// Turns changes with each server that is left alone, or answers again, or has what another one had before.
	Turns() uint64
}

// PartError says that some servers of a cache did not do what they were asked for, or were not asked. The others did. It
// is no failure of the cache as a whole: the servers that failed have been counted already.
type PartError struct {
	// Failed are the places of what was not done, in the order asked for; nil where places mean nothing.
	Failed []int
	// Err is what one of the servers said; nil where all of them were merely not asked.
	Err error
}

func (e *PartError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("%d not asked for: their servers are left alone", len(e.Failed))
	}
	return fmt.Sprintf("%d not done: %v", len(e.Failed), e.Err)
}

func (e *PartError) Unwrap() error { return e.Err }
