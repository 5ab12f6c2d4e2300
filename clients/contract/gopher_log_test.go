package contract

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

var errSilent = errors.New("the stream went silent")

// reasonOf is Parley's reason in an error, or the SDKs' own for what has none.
func reasonOf(err error) string {
	if err == nil {
		return ""
	}
	if errors.Is(err, errSilent) {
		return "STREAM_SILENT"
	}
	var ce *connect.Error
	if errors.As(err, &ce) {
		for _, d := range ce.Details() {
			v, err := d.Value()
			if detail, is := v.(*parleyv1.ErrorDetail); err == nil && is {
				return strings.TrimPrefix(detail.GetReason().String(), "ERROR_REASON_")
			}
		}
	}
	return "UNREACHABLE"
}

// final reports whether repeating changes nothing.
func final(reason string) bool {
	switch reason {
	case "", "UNREACHABLE", "STREAM_SILENT", "UNAVAILABLE", "SHUTTING_DOWN", "OVERLOADED", "RATE_LIMITED", "INTERNAL",
		"CALL_ENDED", "TOKEN_EXPIRED", "UNSPECIFIED":
		return false
	}
	return true
}

func cmpErr(cause, err error) error {
	if errors.Is(cause, errSilent) {
		return errSilent
	}
	return err
}

// journal is the log of a session, made if it is new.
func (g *gopher) journal(id string) *journal {
	j := g.kept.sessions[id]
	if j == nil {
		j = &journal{held: map[int64]*parleyv1.Message{}, hidden: map[int64]bool{}, typing: map[string]time.Time{}}
		g.kept.sessions[id] = j
	}
	return j
}

// take takes what the stream says.
func (g *gopher) take(ev *parleyv1.Event) {
	switch k := ev.GetKind().(type) {
	case *parleyv1.Event_Opened:
		if g.kept.epoch == "" {
			g.kept.epoch = k.Opened.GetEpoch()
		}
	case *parleyv1.Event_Message:
		j := g.journal(k.Message.GetSessionId())
		if !j.open && len(j.held) == 0 {
			j.open, j.at = true, k.Message.GetSeq()-1
		}
		g.entry(k.Message)
	case *parleyv1.Event_Skipped:
		j := g.journal(k.Skipped.GetSessionId())
		j.open, j.at = true, k.Skipped.GetToSeq()
		j.log = nil // what lies before is history now
		j.skipped = append(j.skipped, fmt.Sprintf("%d-%d", k.Skipped.GetFromSeq(), k.Skipped.GetToSeq()))
	case *parleyv1.Event_State:
		j := g.journal(k.State.GetSessionId())
		for _, seq := range k.State.GetDeletedSeqs() {
			j.hidden[seq] = true
		}
		j.hiddenTo = max(j.hiddenTo, k.State.GetDeletedToSeq())
	case *parleyv1.Event_Signal:
		if typing := k.Signal.GetSignal().GetTyping(); typing != nil && k.Signal.GetSenderId() != g.me {
			delete(g.journal(k.Signal.GetSessionId()).typing, k.Signal.GetSenderId())
			if typing.GetIsTyping() {
				g.journal(k.Signal.GetSessionId()).typing[k.Signal.GetSenderId()] = time.Now().Add(10 * time.Second)
			}
		}
	case *parleyv1.Event_Resync:
		g.resync(k.Resync)
	case *parleyv1.Event_CaughtUp:
		g.connection, g.reason = "live", ""
	}
}

func (g *gopher) resync(r *parleyv1.Resync) {
	names := map[parleyv1.ResyncReason]string{
		parleyv1.ResyncReason_RESYNC_REASON_EPOCH_CHANGED:       "epochChanged",
		parleyv1.ResyncReason_RESYNC_REASON_CURSOR_BEYOND_HEAD:  "cursorBeyondHead",
		parleyv1.ResyncReason_RESYNC_REASON_SESSION_UNAVAILABLE: "sessionUnavailable",
	}
	g.resets = append(g.resets, names[r.GetReason()])
	if id := r.GetSessionId(); id != "" {
		delete(g.kept.sessions, id)
		delete(g.acked, id)
		return
	}
	clear(g.kept.sessions)
	clear(g.acked)
	g.kept.epoch = r.GetEpoch()
}

// entry takes an entry, and shows what is next.
func (g *gopher) entry(m *parleyv1.Message) {
	j := g.journal(m.GetSessionId())
	if j.open && m.GetSeq() <= j.at {
		return
	}
	j.held[m.GetSeq()] = m
	if m.GetState().GetIsDeleted() {
		j.hidden[m.GetSeq()] = true
	}
	g.advance(j)
}

func (g *gopher) advance(j *journal) {
	for j.open {
		m := j.held[j.at+1]
		if m == nil {
			return
		}
		j.at++
		delete(j.held, j.at)
		if n := len(j.log); n > 0 && j.log[n-1].GetSeq() >= m.GetSeq() {
			g.problems = append(g.problems, fmt.Sprintf("%d after %d", m.GetSeq(), j.log[n-1].GetSeq()))
		}
		j.log = append(j.log, m)
		j.shown = append(j.shown, entryText(m))
		delete(j.typing, m.GetSenderId())
		if seq := m.GetContent().GetRecall().GetSeq(); seq > 0 {
			for _, old := range j.log {
				if old.GetSeq() == seq {
					old.IsDeleted, old.Content = true, nil
				}
			}
		}
	}
}

// fill asks the log for what is missing before entries that are here.
func (g *gopher) fill(ctx context.Context) error {
	for {
		g.mu.Lock()
		req := &parleyv1.ListMessagesRequest{Limit: 200}
		var want *journal
		for id, j := range g.kept.sessions {
			if len(j.held) > 0 {
				req.SessionId, want = id, j
				req.Position = &parleyv1.ListMessagesRequest_AfterSeq{AfterSeq: j.at}
			}
		}
		g.mu.Unlock()
		if want == nil {
			return nil
		}
		page, err := g.messages.ListMessages(ctx, req)
		if err != nil {
			return err
		}
		if len(page.GetMessages()) == 0 {
			return nil
		}
		g.mu.Lock()
		if first := page.GetMessages()[0].GetSeq(); !want.open || (want.at == req.GetAfterSeq() && first > want.at+1) {
			want.open, want.at = true, first-1 // what lies before cannot be seen by the user
		}
		for _, m := range page.GetMessages() {
			g.entry(m)
		}
		for _, seq := range slices.Collect(keysUpTo(want.held, want.at)) {
			delete(want.held, seq)
		}
		g.mu.Unlock()
	}
}

func keysUpTo(held map[int64]*parleyv1.Message, at int64) func(yield func(int64) bool) {
	return func(yield func(int64) bool) {
		for seq := range held {
			if seq <= at && !yield(seq) {
				return
			}
		}
	}
}
