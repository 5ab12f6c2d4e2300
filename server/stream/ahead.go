package stream

import (
	"context"
	"slices"
	"time"

	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/wire"
)

// aheadFor is how long a page that was read ahead is good: a reader that is slower gets what is read anew, for something
// may have been recalled.
const aheadFor = time.Second

// ahead is a page of backlog that is read while the one before it is written. Written before done is closed, read after.
type ahead struct {
	ranges []message.Range
	began  time.Time
	done   chan struct{}
	pages  [][]*wire.Entry
	err    error
}

func rangesOf(pulls []pull) []message.Range {
	ranges := make([]message.Range, len(pulls))
	for i, p := range pulls {
		ranges[i] = message.Range{SessionID: p.t.sessionID, From: p.lo, To: p.hi}
	}
	return ranges
}

// readAhead begins to read what comes next, if it need not wait for a turn. It holds no more than one page.
func (s *Stream) readAhead(ctx context.Context, ranges []message.Range) {
	if len(ranges) == 0 || !s.m.pulls.TryAcquire(1) {
		return
	}
	a := &ahead{ranges: ranges, began: s.m.clock.Now(), done: make(chan struct{})}
	s.ahead = a
	go func() {
		defer close(a.done)
		defer s.m.pulls.Release(1)
		a.pages, a.err = s.m.reader.Read(ctx, ranges)
	}()
}

// readPage reads a page, or takes what was read ahead if that is the same and still good.
func (s *Stream) readPage(ctx context.Context, ranges []message.Range) ([][]*wire.Entry, error) {
	a := s.ahead
	s.ahead = nil
	if a != nil && slices.Equal(a.ranges, ranges) && s.m.clock.Since(a.began) < aheadFor {
		select {
		case <-a.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if a.err == nil {
			return a.pages, nil
		}
	}
	return s.m.reader.Read(ctx, ranges)
}
