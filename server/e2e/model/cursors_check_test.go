package model

import (
	"testing"

	"github.com/stretchr/testify/require"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

// check compares what the race has left behind with what the taken calls come to.
func (r *race) check(t *testing.T) {
	var upTo int64
	read := map[int64]bool{}
	for _, d := range r.devices {
		upTo = max(upTo, d.upTo)
		for seq := range d.read {
			read[seq] = true
		}
	}
	// The watermark is the highest valid position, or as far as single marks join on to it.
	unread, watermark, open := int64(0), upTo, true
	for seq := r.joined; seq <= r.head; seq++ {
		if seq <= upTo {
			continue
		}
		if r.log[seq-1] && !read[seq] {
			unread, open = unread+1, false
		} else if open {
			watermark = seq
		}
	}
	d := r.devices[0]
	got, err := d.GetSession(t.Context(), &parleyv1.GetSessionRequest{SessionId: r.session})
	require.NoError(t, err)
	at := got.GetSession().GetMembership().GetReadSeq()
	// Between the two: reading up to a seq does not absorb single marks beyond it, the next single mark does.
	require.GreaterOrEqual(t, at, upTo)
	require.LessOrEqual(t, at, watermark)
	require.Equal(t, unread, got.GetSession().GetUnread())
	counts, err := d.GetUnread(t.Context(), &parleyv1.GetUnreadRequest{})
	require.NoError(t, err)
	require.Equal(t, unread, counts.GetTotal())
	r.checkStates(t, upTo, read)
	for _, d := range r.devices {
		r.checkEvents(t, d, at)
		r.checkAcked(t, d)
	}
}

func (r *race) checkStates(t *testing.T, upTo int64, read map[int64]bool) {
	got, err := r.devices[1].ListStates(t.Context(), &parleyv1.ListStatesRequest{SessionId: r.session, AfterSeq: r.joined - 1, Limit: 1000})
	require.NoError(t, err)
	require.Len(t, got.GetStates(), int(r.head-r.joined+1))
	for _, s := range got.GetStates() {
		seq := s.GetSeq()
		require.Equal(t, seq <= upTo || read[seq] || !r.log[seq-1], s.GetIsRead(), "seq %d", seq)
	}
}

// checkEvents sees that no cursor was shown to move back. A mark of unread ends the events of the race: what it says must
// come to every other device, and nothing older after it.
func (r *race) checkEvents(t *testing.T, d *racer, at int64) {
	other := r.devices[0]
	if other == d {
		other = r.devices[1]
	}
	var last int64
	ended := func(ev *parleyv1.Event) bool {
		s := ev.GetState()
		if s == nil {
			return false
		}
		require.GreaterOrEqual(t, s.GetReadSeq(), last, "the watermark was shown to move back")
		require.LessOrEqual(t, s.GetReadSeq(), at)
		last = s.GetReadSeq()
		return s.GetMarkedUnread()
	}
	_, err := other.MarkUnread(t.Context(), &parleyv1.MarkUnreadRequest{SessionId: r.session})
	require.NoError(t, err)
	require.NoError(t, d.await(ended))
	require.Equal(t, at, last)
	_, err = other.MarkRead(t.Context(), &parleyv1.MarkReadRequest{SessionId: r.session, UpToSeq: r.joined})
	require.NoError(t, err)
}

// checkAcked sees that a device goes on from its highest ack.
func (r *race) checkAcked(t *testing.T, d *racer) {
	d.live.close()
	s := subscribe(d.api, &parleyv1.SubscribeRequest{})
	defer s.close()
	again := &racer{live: s}
	first := int64(0)
	require.NoError(t, again.await(func(ev *parleyv1.Event) bool {
		if m := ev.GetMessage(); m != nil && first == 0 {
			first = m.GetSeq()
		}
		return ev.GetCaughtUp() != nil
	}))
	require.Equal(t, d.acked+1, first)
}
