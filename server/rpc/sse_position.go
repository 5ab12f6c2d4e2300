package rpc

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"slices"
	"strconv"

	"github.com/google/uuid"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/refusal"
)

// Bounds of an event id. It is in every event, so it names only the sessions that moved last; others resume at their
// acknowledged positions and may repeat what was not acknowledged.
const (
	maxEventPositions = 64
	maxEventIDBytes   = 4 << 10
	maxEpochBytes     = 64
	eventIDVersion    = 1
)

type position struct {
	sessionID uuid.UUID
	seq       int64
}

// positions is where a stream stands: the last seq that it sent of each session, those that moved last at the end.
type positions struct {
	epoch string
	list  []position
}

// start takes over where the stream begins.
func (p *positions) start(req *parleyv1.SubscribeRequest) {
	p.epoch = req.GetEpoch()
	for _, c := range req.GetCursors() {
		if id, err := uuid.Parse(c.GetSessionId()); err == nil {
			p.set(id, c.GetSeq())
		}
	}
}

func (p *positions) set(id uuid.UUID, seq int64) {
	p.drop(id)
	if len(p.list) == maxEventPositions {
		p.list = slices.Delete(p.list, 0, 1)
	}
	p.list = append(p.list, position{id, seq})
}

func (p *positions) drop(id uuid.UUID) {
	p.list = slices.DeleteFunc(p.list, func(have position) bool { return have.sessionID == id })
}

// move takes over what a frame, a SubscribeResponse as JSON, says of positions.
func (p *positions) move(frame []byte) {
	type at struct {
		SessionID uuid.UUID `json:"sessionId"`
		Seq       string    `json:"seq"`
		ToSeq     string    `json:"toSeq"`
	}
	var response struct {
		Events []struct {
			Message *at `json:"message"`
			Skipped *at `json:"skipped"`
			Opened  *struct {
				Epoch string `json:"epoch"`
			} `json:"opened"`
			Resync *struct {
				SessionID string `json:"sessionId"`
				Epoch     string `json:"epoch"`
			} `json:"resync"`
		} `json:"events"`
	}
	if json.Unmarshal(frame, &response) != nil {
		return // then the id stays behind, and a resumed stream repeats
	}
	for _, e := range response.Events {
		switch {
		case e.Message != nil:
			p.moveTo(e.Message.SessionID, e.Message.Seq)
		case e.Skipped != nil:
			p.moveTo(e.Skipped.SessionID, e.Skipped.ToSeq)
		case e.Opened != nil:
			p.reset(e.Opened.Epoch)
		case e.Resync != nil && e.Resync.SessionID == "":
			p.list = nil
			p.reset(e.Resync.Epoch)
		case e.Resync != nil:
			if id, err := uuid.Parse(e.Resync.SessionID); err == nil {
				p.drop(id)
			}
		}
	}
}

func (p *positions) moveTo(id uuid.UUID, seq string) {
	if n, err := strconv.ParseInt(seq, 10, 64); err == nil {
		p.set(id, n)
	}
}

// reset goes over to an epoch: positions of another one mean nothing.
func (p *positions) reset(epoch string) {
	if p.epoch != epoch {
		p.epoch, p.list = epoch, nil
	}
}

// eventID encodes the positions.
func (p *positions) eventID() string {
	b := []byte{eventIDVersion}
	b = binary.AppendUvarint(b, uint64(len(p.epoch)))
	b = append(b, p.epoch...)
	for _, at := range p.list {
		b = append(b, at.sessionID[:]...)
		b = binary.AppendUvarint(b, uint64(at.seq)) //nolint:gosec // not negative
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

var badEventID = refusal.New(refusal.InvalidField, "This Last-Event-ID was not made by this server; leave it out to start "+
	"at the acknowledged positions.", "field", lastEventID, "rule", "encoding")

// parseEventID reads an event id into the request. The empty one leaves it as it is.
func parseEventID(id string, req *parleyv1.SubscribeRequest) error {
	if id == "" {
		return nil
	}
	if len(id) > maxEventIDBytes {
		return badEventID
	}
	b, err := base64.RawURLEncoding.DecodeString(id)
	if err != nil || len(b) == 0 || b[0] != eventIDVersion {
		return badEventID
	}
	size, n := binary.Uvarint(b[1:])
	b = b[1:]
	if n <= 0 || size > maxEpochBytes || size > uint64(len(b)-n) { //nolint:gosec // n <= len(b)
		return badEventID
	}
	var p positions
	p.epoch, b = string(b[n:n+int(size)]), b[n+int(size):]
	for len(b) > 0 {
		if len(b) <= len(uuid.UUID{}) || len(p.list) == maxEventPositions {
			return badEventID
		}
		var at position
		b = b[copy(at.sessionID[:], b):]
		seq, n := binary.Uvarint(b)
		if n <= 0 || int64(seq) < 0 { //nolint:gosec // the sign is what is looked at
			return badEventID
		}
		at.seq, b = int64(seq), b[n:] //nolint:gosec // just looked at
		p.list = append(p.list, at)
	}
	if p.eventID() != id { // one spelling only
		return badEventID
	}
	req.Epoch = p.epoch
	for _, at := range p.list {
		req.Cursors = append(req.Cursors, &parleyv1.Cursor{SessionId: at.sessionID.String(), Seq: at.seq})
	}
	return nil
}
