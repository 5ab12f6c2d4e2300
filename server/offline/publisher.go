package offline

import (
	"github.com/google/uuid"

	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/ring"
	"github.com/parley-im/parley/server/wire"
)

// Hub takes encoded entries to the local streams.
type Hub interface {
	Publish(entries []*wire.Entry)
	DirectStarted(sessionID uuid.UUID, users [2]string)
}

// Publisher takes what was committed here, encodes it once, and hands it on: to the ring, to the streams, to the cache.
// The ring comes first, so that a stream which pulls finds there what it was just told of.
type Publisher struct {
	Ring   *ring.Ring
	Hub    Hub
	Keeper *Keeper
}

// Publish implements committer.Publisher.
func (p *Publisher) Publish(entries []message.Entry) {
	encoded := make([]*wire.Entry, len(entries))
	for i, e := range entries {
		encoded[i] = wire.Encode(e)
		p.Ring.Append(encoded[i])
	}
	p.Hub.Publish(encoded)
	p.Keeper.Committed(encoded)
}

// DirectStarted implements committer.Publisher.
func (p *Publisher) DirectStarted(sessionID uuid.UUID, users [2]string) {
	p.Hub.DirectStarted(sessionID, users)
}
