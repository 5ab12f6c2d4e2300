package state

import (
	"context"

	"github.com/google/uuid"

	"github.com/parley-im/parley/server/refusal"
	"github.com/parley-im/parley/server/session"
)

// Readers are those who have read a message.
type Readers struct {
	Count int64    // in all
	Users []string // one page, in byte order
	More  bool     // there are readers after the last of Users
}

// errUnseen is the one answer to "no such entry" and "not yours to see".
var errUnseen = refusal.New(refusal.MessageUnavailable, "There is no such message for you.")

// Readers returns the members who have read an entry, without its sender: how many, and at most limit of those whose id
// comes after a user id (limit as for List). Only those who are members now may ask and are told of. Members who
// cannot see the entry are no readers, however high their watermark; a recalled entry keeps its readers.
//
// Refusals: SESSION_UNAVAILABLE, MESSAGE_UNAVAILABLE for an entry that the caller cannot see.
func (s *Service) Readers(ctx context.Context, userID string, sessionID uuid.UUID, seq int64, after string, limit int) (Readers, error) {
	st, ok, err := s.store.Standing(ctx, userID, sessionID)
	if err != nil {
		return Readers{}, err
	}
	if err := session.Authorize(session.ListMembers, st.Part(ok)); err != nil {
		return Readers{}, err
	}
	if seq > st.Last() || !st.Visible.Contains(seq) {
		return Readers{}, errUnseen
	}
	n := pageSize(limit)
	count, users, err := s.store.Readers(ctx, sessionID, seq, after, n+1)
	if err != nil {
		return Readers{}, err
	}
	if len(users) > n {
		return Readers{Count: count, Users: users[:n], More: true}, nil
	}
	return Readers{Count: count, Users: users}, nil
}
