package roster

import (
	"github.com/google/uuid"

	"github.com/parley-im/parley/server/feed"
)

// Visitor is given rows while they are read; the slices are the caller's again afterwards.
type Visitor interface {
	// Row takes one row. other is the peer's or the device's id, the 16 bytes of the session's, or empty for a user. An
	// error ends the reading.
	Row(kind feed.RelationKind, user, other []byte, traits uint8) error
}

// builder collects rows and makes a graph of them: whole lists at once take neither searching nor moving.
type builder struct {
	g                    *graph
	peers, owned, joined []row
	max, seen            int64
}

func newBuilder(maxBytes int64) *builder { return &builder{g: &graph{}, max: maxBytes} }

// checkEvery is after how many rows the bound on memory is looked at.
const checkEvery = 1 << 14

// Row implements Visitor.
func (b *builder) Row(kind feed.RelationKind, userID, otherID []byte, traits uint8) (err error) {
	if b.seen++; b.seen%checkEvery == 0 && b.bytes() > b.max {
		return ErrTooLarge
	}
	user, err := b.g.users.intern(userID)
	if err != nil {
		return err
	}
	var other uint32
	switch kind {
	case feed.User:
		for int(user) >= len(b.g.known) {
			b.g.known = append(b.g.known, 0)
		}
		b.g.known[user] = isUser | traits<<1
	case feed.UserToUser:
		if other, err = b.g.users.intern(otherID); err == nil {
			b.peers = append(b.peers, row{user, newEdge(other, traits)})
		}
	case feed.UserToDevice:
		if other, err = b.g.devices.intern(otherID); err == nil {
			b.owned = append(b.owned, row{user, newEdge(other, traits)})
		}
	case feed.UserToSession:
		if other, err = b.g.sessions.intern(uuid.UUID(otherID)); err == nil {
			b.joined = append(b.joined, row{user, newEdge(other, traits)})
		}
	}
	if err == nil {
		b.g.rows[kind]++
	}
	return err
}

// bytes is what the graph will hold, about.
func (b *builder) bytes() int64 {
	return b.g.bytes() + 12*int64(3*len(b.g.users.ends)+len(b.g.sessions.ids)) +
		4*int64(len(b.peers)+len(b.owned)+2*len(b.joined))
}

// graph makes the lists and ends the builder.
func (b *builder) graph() (*graph, error) {
	same := func(r row) row { return r }
	g, users := b.g, len(b.g.users.ends)
	g.peers, b.peers = makeLists(users, b.peers, same), nil
	g.owned, b.owned = makeLists(users, b.owned, same), nil
	g.joined = makeLists(users, b.joined, same)
	g.members, b.joined = makeLists(len(g.sessions.ids), b.joined, row.flipped), nil
	if g.bytes() > b.max {
		return nil, ErrTooLarge
	}
	return g, nil
}
