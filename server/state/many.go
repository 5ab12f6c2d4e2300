package state

import (
	"context"

	"github.com/google/uuid"

	"github.com/parley-im/parley/server/message"
)

// StatesOf reads what a user's own states are within ranges that do not overlap, for putting them on entries that are
// read back. The function it returns takes an entry's session with what the function of Of takes; entries outside the
// ranges, and of sessions that the user never was in, are told by what the cursors say. It is safe for concurrent use.
func (s *Service) StatesOf(ctx context.Context, userID string, ranges []message.Range) (
	func(sessionID uuid.UUID, seq int64, own, countable bool) (read, deleted bool), error,
) {
	kept, err := s.store.Kept(ctx, userID, ranges)
	if err != nil {
		return nil, err
	}
	of := make(map[uuid.UUID]func(int64, bool, bool) (bool, bool), len(kept))
	for _, k := range kept {
		of[k.SessionID] = Of(View{SessionID: k.SessionID, ReadSeq: k.ReadSeq, DeletedToSeq: k.DeletedToSeq}, k.Exceptions)
	}
	unknown := Of(View{}, nil)
	return func(sessionID uuid.UUID, seq int64, own, countable bool) (read, deleted bool) {
		if known, ok := of[sessionID]; ok {
			return known(seq, own, countable)
		}
		return unknown(seq, own, countable)
	}, nil
}
