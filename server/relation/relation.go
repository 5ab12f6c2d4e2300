// Package relation is the domain of what users are to each other: friends, requests and blocks.
//
// What is stored is one mark per direction (Pair); what a user sees of it is a Kind. A request is the asking user's mark
// alone and shows on both sides, a block shows only to who set it, and a friendship is two marks.
//
// Invariants, which every change keeps:
//   - friend marks are always two;
//   - beside a block there is no friend mark and no request, in either direction;
//   - two requests never stand against each other: the second one is an acceptance.
//
// Changes of one pair, and changes by one user, run one after another under locks (Store.Change). The rules are
// functions of what is found under the locks and nothing else (rules.go).
package relation

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

// Bounds of what one user can hold.
const (
	// MaxTies is how many friends and own requests a user may have together.
	MaxTies = 10_000
	// MaxBlocks is how many users a user may block.
	MaxBlocks = 10_000
)

// Relation is what another user is to the one who looks.
type Relation struct {
	UserID string // the other
	Kind   Kind
	// UpdatedAt is since when, or when it ended where Kind is None; zero where that is not known.
	UpdatedAt time.Time
}

// Proto returns the relation as it is on the wire.
func (r Relation) Proto() *parleyv1.Relation {
	p := &parleyv1.Relation{UserId: r.UserID, Kind: parleyv1.RelationKind(r.Kind)}
	if !r.UpdatedAt.IsZero() {
		p.UpdatedAt = timestamppb.New(r.UpdatedAt)
	}
	return p
}

// Event tells a user's devices what another user is now.
func Event(r Relation) *parleyv1.Event {
	return &parleyv1.Event{Kind: &parleyv1.Event_Relation{Relation: &parleyv1.RelationEvent{Relation: r.Proto()}}}
}

// Link names a pair of users by who looks and who is looked at.
type Link struct{ UserID, PeerID string }

// Store keeps relations. Implemented by storage; safe for concurrent use.
type Store interface {
	// Change runs fn in one transaction that holds the locks of both users, and commits unless fn fails, whose errors come
	// back as they are. fn may run again from the start after a lost race, so it must not keep state from an earlier run.
	Change(ctx context.Context, userID, peerID string, fn func(ctx context.Context, l Ledger) error) error
	// List returns a user's relations of a kind, None meaning all, with users whose id comes after a user id, ascending in
	// byte order, at most limit.
	List(ctx context.Context, userID string, kind Kind, after string, limit int) ([]Relation, error)
	// Views returns for each link what the peer is to the user, None included, in the links' order.
	Views(ctx context.Context, links []Link) ([]Relation, error)
}

// Ledger is one pair of users inside an open transaction that holds both users' locks. Not safe for concurrent use.
type Ledger interface {
	// Standing returns what is known of the pair, as locked, and since when its Kind is what it is; zero for None.
	Standing() (st Standing, since time.Time)
	// Count returns how many of these marks the user who acts has set, on anybody.
	Count(ctx context.Context, marks ...Mark) (int64, error)
	// Save stores what differs between before and after, and tells other nodes which of the two users see a change.
	Save(ctx context.Context, before, after Pair, now time.Time) error
}

// Notifier tells users' devices. It never blocks, cannot fail and is safe for concurrent use. Of two changes at the same
// time the older one may be told last; what other nodes and this one read from relation_change within a second sets that
// right.
type Notifier interface {
	// NotifyUser gives an event to the user's live devices on this node but one.
	NotifyUser(userID, exceptDevice string, ev *parleyv1.Event)
}
