package chat

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"time"

	"connectrpc.com/connect"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

// problem is what an error means for a client.
type problem struct {
	reason parleyv1.ErrorReason // UNSPECIFIED when the server could not be asked
	text   string
	// again is true when repeating the call may help, after at least the given time.
	again bool
	after time.Duration
}

// problemOf judges an error: those of calls by the reason that the server gave, as error_reason.proto says. What is no
// error of a call, such as a token that cannot be had, is final.
func problemOf(err error) problem {
	p := problem{text: err.Error()}
	var ce *connect.Error
	if !errors.As(err, &ce) {
		p.again = errors.Is(err, errSilent)
		return p
	}
	p.text = ce.Message()
	for _, d := range ce.Details() {
		if v, err := d.Value(); err == nil {
			if detail, ok := v.(*parleyv1.ErrorDetail); ok {
				p.reason = detail.GetReason()
				if ms, err := strconv.Atoi(detail.GetMetadata()["retry_after_ms"]); err == nil {
					p.after = min(time.Duration(ms)*time.Millisecond, maxPause)
				}
			}
		}
	}
	switch p.reason {
	case parleyv1.ErrorReason_ERROR_REASON_UNSPECIFIED:
		p.again = passing(ce.Code())
	case parleyv1.ErrorReason_ERROR_REASON_STREAM_DISPLACED:
		p.text = "another chat took over this device (give each its own with --device)"
	case parleyv1.ErrorReason_ERROR_REASON_RATE_LIMITED, parleyv1.ErrorReason_ERROR_REASON_OVERLOADED,
		parleyv1.ErrorReason_ERROR_REASON_UNAVAILABLE, parleyv1.ErrorReason_ERROR_REASON_SHUTTING_DOWN,
		parleyv1.ErrorReason_ERROR_REASON_INTERNAL, parleyv1.ErrorReason_ERROR_REASON_CALL_ENDED,
		parleyv1.ErrorReason_ERROR_REASON_TOKEN_EXPIRED:
		p.again = true
	default:
	}
	return p
}

// passing judges codes without a reason, which are not from Parley itself: a proxy, no server at all, another server.
func passing(code connect.Code) bool {
	switch code {
	case connect.CodeUnauthenticated, connect.CodePermissionDenied, connect.CodeUnimplemented, connect.CodeInvalidArgument,
		connect.CodeNotFound:
		return false
	default:
		return true
	}
}

// Bounds of the pause between two tries.
const (
	firstPause = 200 * time.Millisecond
	maxPause   = 10 * time.Second
)

// backoff waits ever longer between tries, each time a random part of the time ("full jitter", as in the article of the
// AWS architecture blog), so that many clients do not come back at once.
type backoff struct{ ceiling time.Duration }

// wait returns false when ctx ended first.
func (b *backoff) wait(ctx context.Context, atLeast time.Duration) bool {
	b.ceiling = min(max(2*b.ceiling, firstPause), maxPause)
	pause := atLeast + time.Duration(rand.Int64N(int64(b.ceiling))) //nolint:gosec // only spreads load
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (b *backoff) reset() { b.ceiling = 0 }
