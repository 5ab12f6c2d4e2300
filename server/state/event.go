package state

import (
	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

// MaxListed bounds each list of seqs in a StateEvent.
const MaxListed = 500

// Changes are the exceptions that a change made, ascending.
type Changes struct {
	Read    []int64
	Deleted []int64
	// Unknown is true where something changed and nobody can say what, as for a node that reads the commit log.
	Unknown bool
}

func (c Changes) none() bool { return len(c.Read) == 0 && len(c.Deleted) == 0 && !c.Unknown }

// Event tells a user's devices what became of a session: the cursors as they are, and what changed above them. Where the
// changes are unknown or more than MaxListed, the lists are cut and the devices are told to reload.
func Event(v View, ch Changes) *parleyv1.Event {
	above := ch.Read[:0:0]
	for _, seq := range ch.Read {
		if seq > v.ReadSeq {
			above = append(above, seq)
		}
	}
	read, readCut := atMost(above)
	deleted, deletedCut := atMost(ch.Deleted)
	return &parleyv1.Event{Kind: &parleyv1.Event_State{State: &parleyv1.StateEvent{
		SessionId:    v.SessionID.String(),
		ReadSeq:      v.ReadSeq,
		DeletedToSeq: v.DeletedToSeq,
		MarkedUnread: v.MarkedUnread,
		ReadSeqs:     read,
		DeletedSeqs:  deleted,
		Unread:       v.Unread,
		Reload:       ch.Unknown || readCut || deletedCut,
	}}}
}

func atMost(seqs []int64) (kept []int64, cut bool) {
	if len(seqs) > MaxListed {
		return seqs[:MaxListed], true
	}
	return seqs, false
}
