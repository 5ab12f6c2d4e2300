package chat

import (
	"context"
	"errors"
	"time"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

// subscription keeps the device's stream open: it reconnects and resumes where the chat stands.
type subscription struct {
	api *api
	// at tells where to resume.
	at func() *parleyv1.SubscribeRequest
	// events takes what came, in order; up and down tell about the connection. All are called by the goroutine of run.
	events func([]*parleyv1.Event)
	up     func()
	down   func(why string)
}

var errSilent = errors.New("the stream went silent")

// defaultHeartbeat counts until the stream has said its own.
const defaultHeartbeat = 20 * time.Second

// run returns when ctx ends, or with the error after which no new stream may be opened.
func (s *subscription) run(ctx context.Context) error {
	var pause backoff
	for {
		err := s.once(ctx, &pause)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		p := problem{again: true, text: "the server ended the stream"} // in good order, after a Resync
		if err != nil {
			p = problemOf(err)
		}
		if !p.again {
			return err
		}
		s.down(p.text)
		if err := s.api.recovered(ctx, p, &pause); err != nil {
			return err
		}
	}
}

// once runs one stream.
func (s *subscription) once(ctx context.Context, pause *backoff) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// Twice the heartbeat without a word means that the connection is dead, whatever TCP believes.
	heartbeat := defaultHeartbeat
	silence := time.AfterFunc(2*heartbeat, func() { cancel(errSilent) })
	defer silence.Stop()

	stream, err := s.api.sync.Subscribe(ctx, s.at())
	if err != nil {
		return s.cause(ctx, err)
	}
	defer stream.Close() //nolint:errcheck // nothing to do about it
	for stream.Receive() {
		for _, ev := range stream.Msg().GetEvents() {
			switch k := ev.GetKind().(type) {
			case *parleyv1.Event_Opened:
				if d := k.Opened.GetHeartbeatInterval().AsDuration(); d > 0 {
					heartbeat = d
				}
				s.up()
			case *parleyv1.Event_CaughtUp:
				pause.reset() // and not before: a node that opens streams only to end them is backed off from
			default:
			}
		}
		silence.Reset(2 * heartbeat)
		s.events(stream.Msg().GetEvents())
	}
	return s.cause(ctx, stream.Err())
}

// cause tells an end of our own making from the server's.
func (s *subscription) cause(ctx context.Context, err error) error {
	if c := context.Cause(ctx); errors.Is(c, errSilent) {
		return c
	}
	return err
}
