package webhook

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"buf.build/go/protovalidate"
	"github.com/google/uuid"
	"github.com/jonboulle/clockwork"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/messaging"
	"github.com/parley-im/parley/server/refusal"
	"github.com/parley-im/parley/server/session"
	"github.com/parley-im/parley/server/wire"
)

const (
	// MaxModerating is how many requests a node has at its moderation at a time. Sends past it wait within their timeout.
	MaxModerating = 64
	// tripAfter failures in a row, moderation is not asked for openFor; then one request tries it.
	tripAfter = 5
	openFor   = 5 * time.Second
	maxReason = 256
)

// Standing is what is known of a draft before anybody is asked about it.
type Standing struct {
	Known bool         // its id was committed in its session before
	Part  session.Part // the sender's, in its session or in the direct one that it would make
}

// Standings tells how drafts stand. Implemented by storage; one look at the store for all of them.
type Standings interface {
	// Standings returns one for each of a sender's drafts, in their order.
	Standings(ctx context.Context, senderID string, drafts []message.Draft) ([]Standing, error)
}

// Moderator implements messaging.Moderator. Safe for concurrent use.
type Moderator struct {
	store   Standings
	epoch   Epoch
	sender  *Sender
	clock   clockwork.Clock
	metrics *Metrics
	hook    atomic.Pointer[Webhook] // nil: nobody moderates
	slots   chan struct{}

	mu       sync.Mutex
	failures int
	openTill time.Time
}

// NewModerator returns a moderator that asks nobody before Use.
func NewModerator(store Standings, epoch Epoch, sender *Sender, clock clockwork.Clock, m *Metrics) *Moderator {
	return &Moderator{store: store, epoch: epoch, sender: sender, clock: clock, metrics: m, slots: make(chan struct{}, MaxModerating)}
}

// Use makes w be asked from now on; nil: nobody.
func (m *Moderator) Use(w *Webhook) { m.hook.Store(w) }

// Active implements messaging.Moderator.
func (m *Moderator) Active() bool { return m.hook.Load() != nil }

var (
	unmoderated = refusal.New(refusal.ModerationUnavailable, "The app's moderation gave no answer; the message was not sent.")
	rejected    = refusal.New(refusal.MessageRejected, "The app's moderation declined the message.")
)

// Judge implements messaging.Moderator. A message that was committed before is not judged again: its sender gets the first
// answer. One whose sender may not send is refused here and shown to nobody: the app is not asked by strangers, neither to
// read what they write nor to bear what they send.
func (m *Moderator) Judge(ctx context.Context, senderID string, drafts []message.Draft) ([]messaging.Verdict, error) {
	out := make([]messaging.Verdict, len(drafts))
	w := m.hook.Load()
	if w == nil || len(drafts) == 0 {
		return out, nil
	}
	standings, err := m.store.Standings(ctx, senderID, drafts)
	if err != nil {
		return nil, err
	}
	var place []int
	for i, s := range standings {
		if s.Known {
			continue
		}
		if out[i].Err = session.Authorize(session.Send, s.Part); out[i].Err == nil {
			place = append(place, i)
		}
	}
	if len(place) == 0 {
		return out, nil
	}
	verdicts, ok := m.ask(ctx, *w, drafts, place)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for n, i := range place {
		switch {
		case ok:
			out[i] = m.apply(drafts[i], verdicts[n])
		case w.OnFailure == Allow:
			m.metrics.moderation.WithLabelValues("failed_allow").Inc()
		default:
			m.metrics.moderation.WithLabelValues("failed_reject").Inc()
			out[i].Err = unmoderated
		}
	}
	return out, nil
}

// ask returns a valid verdict for each of the drafts in place, or ok false.
func (m *Moderator) ask(ctx context.Context, w Webhook, drafts []message.Draft, place []int) (_ []*parleyv1.ModerationVerdict, ok bool) {
	if !m.allows() {
		return nil, false
	}
	asking, cancel := context.WithTimeout(ctx, w.Timeout)
	defer cancel()
	select {
	case m.slots <- struct{}{}:
		defer func() { <-m.slots }()
	case <-asking.Done():
		return nil, false
	}
	data := &parleyv1.WebhookData{Epoch: m.epoch.Current()}
	for _, i := range place {
		d := drafts[i]
		shown := wire.Message(message.Entry{SessionID: d.SessionID, MessageID: d.MessageID, SenderID: d.SenderID,
			SenderDevice: d.SenderDevice, Type: d.Type, Body: d.Body})
		shown.CreatedAt = nil
		data.Moderate = append(data.Moderate, shown)
	}
	body, err := encode(Moderation.String(), m.clock.Now(), data)
	if err != nil {
		return nil, false
	}
	a, answer := m.sender.Post(asking, w, uuid.New(), body, true)
	m.metrics.judging.Observe(a.Took.Seconds())
	var res parleyv1.ModerationResponse
	ok = a.Error == "" && protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(answer, &res) == nil && valid(&res, len(place))
	if ctx.Err() == nil { // else it is the caller who left
		m.done(ok)
	}
	return res.GetVerdicts(), ok
}

// valid reports whether there is a usable verdict for each of n messages.
func valid(res *parleyv1.ModerationResponse, n int) bool {
	if len(res.GetVerdicts()) != n {
		return false
	}
	for _, v := range res.GetVerdicts() {
		switch v.GetAction() {
		case parleyv1.ModerationAction_MODERATION_ACTION_ALLOW:
		case parleyv1.ModerationAction_MODERATION_ACTION_REJECT:
			if len(v.GetReason()) > maxReason || !utf8.ValidString(v.GetReason()) {
				return false
			}
		case parleyv1.ModerationAction_MODERATION_ACTION_REPLACE:
			if _, ok := messaging.TypeOf(v.GetContent()); !ok || protovalidate.Validate(v.GetContent()) != nil {
				return false
			}
		default:
			return false
		}
	}
	return true
}

func (m *Moderator) apply(d message.Draft, v *parleyv1.ModerationVerdict) (out messaging.Verdict) {
	switch v.GetAction() {
	case parleyv1.ModerationAction_MODERATION_ACTION_REJECT:
		m.metrics.moderation.WithLabelValues("reject").Inc()
		out.Err = rejected
		if v.GetReason() != "" {
			out.Err = refusal.New(refusal.MessageRejected, rejected.Text, "moderation_reason", v.GetReason())
		}
	case parleyv1.ModerationAction_MODERATION_ACTION_REPLACE:
		m.metrics.moderation.WithLabelValues("replace").Inc()
		out.Type, _ = messaging.TypeOf(v.GetContent())
		var body parleyv1.Message
		err := proto.Unmarshal(d.Body, &body)
		if err == nil {
			body.Content = v.GetContent()
			out.Body, err = proto.MarshalOptions{Deterministic: true}.Marshal(&body)
		}
		if err != nil {
			out.Err = unmoderated
		}
	default:
		m.metrics.moderation.WithLabelValues("allow").Inc()
	}
	return out
}

// allows reports whether moderation is to be asked. While it is left alone, one request per openFor tries it.
func (m *Moderator) allows() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failures < tripAfter {
		return true
	}
	now := m.clock.Now()
	if now.Before(m.openTill) {
		return false
	}
	m.openTill = now.Add(openFor)
	return true
}

func (m *Moderator) done(ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if ok {
		m.failures = 0
		return
	}
	if m.failures++; m.failures >= tripAfter {
		m.openTill = m.clock.Now().Add(openFor)
	}
}
