package hints

import (
	"errors"

	"github.com/google/uuid"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/wire"
)

// kind says what a hint tells. The numbers are on the wire between nodes of different versions: never used again.
type kind uint64

const (
	kindEntries  kind = 1  // entries of one session, in order
	kindAdvanced kind = 2  // a session's head, where its entries would be too large
	kindSignal   kind = 3  // something ephemeral in a session
	kindUser     kind = 4  // an event for a user's devices but one
	kindChanged  kind = 5  // something was committed that the feed should look at now
	kindBeat     kind = 6  // a node is there
	kindProbe    kind = 7  // a hint to oneself
	kindPresence kind = 8  // a user's devices came or went
	kindWatch    kind = 9  // whom a device's stream is to tell the presence of
	kindStarted  kind = 10 // a device's stream began
)

// Fields of a hint, encoded as a protobuf message by hand: there is no API in it.
const (
	fieldKind    = 1
	fieldNode    = 2 // the node that says it
	fieldEpoch   = 3
	fieldSession = 4
	fieldSeq     = 5 // head; of a probe or a stream its number
	fieldUser    = 6
	fieldDevice  = 7 // that is left out, or that is meant
	fieldEntry   = 8 // repeated: an encoded parley.v1.Message
	fieldEvent   = 9 // an encoded parley.v1.Event; of kindWatch a WatchPresenceResponse
)

// maxPayload is the size of entries up to which a hint carries them; past it receivers read them back.
const maxPayload = 64 << 10

var errNoHint = errors.New("the bytes are no hint")

// message is a hint. What is set depends on its kind.
type message struct {
	kind    kind
	node    string
	epoch   string
	session uuid.UUID
	seq     int64
	user    string
	device  string
	entries [][]byte
	event   []byte
}

func (m message) encode() []byte {
	b := protowire.AppendVarint(protowire.AppendTag(nil, fieldKind, protowire.VarintType), uint64(m.kind))
	b = appendBytes(b, fieldNode, []byte(m.node))
	b = appendBytes(b, fieldEpoch, []byte(m.epoch))
	if m.session != uuid.Nil {
		b = appendBytes(b, fieldSession, m.session[:])
	}
	if m.seq > 0 {
		b = protowire.AppendVarint(protowire.AppendTag(b, fieldSeq, protowire.VarintType), uint64(m.seq))
	}
	b = appendBytes(b, fieldUser, []byte(m.user))
	b = appendBytes(b, fieldDevice, []byte(m.device))
	for _, e := range m.entries {
		b = appendBytes(b, fieldEntry, e)
	}
	return appendBytes(b, fieldEvent, m.event)
}

func appendBytes(b []byte, field protowire.Number, v []byte) []byte {
	if len(v) == 0 {
		return b
	}
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), v)
}

// decode reads a hint; the bytes are not trusted. Unknown fields are passed over, for nodes of later versions.
func decode(b []byte) (m message, err error) {
	for len(b) > 0 {
		field, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return m, errNoHint
		}
		b = b[n:]
		switch typ {
		case protowire.VarintType:
			v, n := protowire.ConsumeVarint(b)
			if n < 0 {
				return m, errNoHint
			}
			b = b[n:]
			m.setNumber(field, v)
		case protowire.BytesType:
			v, n := protowire.ConsumeBytes(b)
			if n < 0 {
				return m, errNoHint
			}
			b = b[n:]
			if !m.setBytes(field, v) {
				return m, errNoHint
			}
		default:
			n := protowire.ConsumeFieldValue(field, typ, b)
			if n < 0 {
				return m, errNoHint
			}
			b = b[n:]
		}
	}
	if m.kind == 0 || m.node == "" {
		return m, errNoHint
	}
	return m, nil
}

func (m *message) setNumber(field protowire.Number, v uint64) {
	switch field { //nolint:exhaustive // others are of later versions
	case fieldKind:
		m.kind = kind(v)
	case fieldSeq:
		m.seq = int64(v) //nolint:gosec // whatever it is, it is only compared
	}
}

func (m *message) setBytes(field protowire.Number, v []byte) bool {
	switch field { //nolint:exhaustive // others are of later versions
	case fieldNode:
		m.node = string(v)
	case fieldEpoch:
		m.epoch = string(v)
	case fieldSession:
		if len(v) != len(m.session) {
			return false
		}
		copy(m.session[:], v)
	case fieldUser:
		m.user = string(v)
	case fieldDevice:
		m.device = string(v)
	case fieldEntry:
		m.entries = append(m.entries, v)
	case fieldEvent:
		m.event = v
	}
	return true
}

// decodeEntries returns a hint's entries if all of them are what they should be: of its session, ascending.
func (m message) decodeEntries() ([]*wire.Entry, error) {
	out := make([]*wire.Entry, 0, len(m.entries))
	last := int64(0)
	for _, raw := range m.entries {
		e, err := wire.Decode(raw)
		if err != nil {
			return nil, err
		}
		if e.SessionID != m.session || e.Seq <= last {
			return nil, errNoHint
		}
		last = e.Seq
		out = append(out, e)
	}
	return out, nil
}

func (m message) decodeEvent() (*parleyv1.Event, error) {
	var ev parleyv1.Event
	if err := proto.Unmarshal(m.event, &ev); err != nil || ev.GetKind() == nil {
		return nil, errNoHint
	}
	return &ev, nil
}
