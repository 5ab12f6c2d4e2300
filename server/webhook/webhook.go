package webhook

import (
	"time"

	"github.com/google/uuid"

	"github.com/parley-im/parley/server/refusal"
)

// EventType is what a webhook can be told of. The numbers are those of parley.v1.WebhookEventType and of the tables.
type EventType int16

// The types of events.
const (
	MessageCreated  EventType = 1
	MessageRecalled EventType = 2
	MemberChanged   EventType = 3
	SessionChanged  EventType = 4
	RelationChanged EventType = 5
	MessageOffline  EventType = 6
	Moderation      EventType = 7
)

var names = map[EventType]string{MessageCreated: "message.created", MessageRecalled: "message.recalled",
	MemberChanged: "member.changed", SessionChanged: "session.changed", RelationChanged: "relation.changed",
	MessageOffline: "message.offline", Moderation: "moderation.requested"}

// String is the event's name in payloads.
func (t EventType) String() string { return names[t] }

// OnFailure is what becomes of messages when moderation gives no valid answer.
type OnFailure int16

// The ways. Undecided is for webhooks that do not moderate.
const (
	Undecided OnFailure = 0
	Allow     OnFailure = 1
	Reject    OnFailure = 2
)

// DisabledReason is why the server disabled a webhook by itself.
type DisabledReason int16

// BacklogFull is for more waiting deliveries than Config.Backlog.
const BacklogFull DisabledReason = 1

// Bounds.
const (
	// MaxWebhooks is how many there may be.
	MaxWebhooks = 20
	// MaxInFlight is how many requests a node makes to one webhook at a time, moderation apart.
	MaxInFlight = 8
	// CountedWaiting is up to where deliveries that wait are counted for people.
	CountedWaiting = 10_001
	// MaxReplay is how many deliveries one replay takes.
	MaxReplay = 1000
	// DefaultModerationTimeout is how long moderation is waited for where nothing is said.
	DefaultModerationTimeout = 500 * time.Millisecond
	// DefaultOverlap is how long requests are signed with a former secret too where nothing is said.
	DefaultOverlap = 24 * time.Hour
)

// Webhook is an address that is told. Secrets are sealed.
type Webhook struct {
	ID             uuid.UUID
	URL            string
	Description    string
	Events         []EventType
	Enabled        bool
	DisabledReason DisabledReason // 0: not by the server
	OnFailure      OnFailure
	Timeout        time.Duration // of moderation
	Secret         []byte
	OldSecret      []byte // nil: none
	OldSecretUntil *time.Time
	CreatedAt      time.Time
	UpdatedAt      time.Time
}

// Moderates reports whether the webhook is asked before messages are sent.
func (w Webhook) Moderates() bool {
	for _, t := range w.Events {
		if t == Moderation {
			return true
		}
	}
	return false
}

// State is what has come of a delivery.
type State int16

// The states.
const (
	Waiting   State = 1
	Delivered State = 2
	GivenUp   State = 3
	Needless  State = 4
)

// Delivery is what one webhook is told of one thing.
type Delivery struct {
	ID        uuid.UUID
	WebhookID uuid.UUID
	Lane      uuid.UUID
	Position  int64
	Chunk     int32 // 0, or the number of this part of an offline message's audience
	Event     EventType
	SessionID uuid.UUID // zero for relations
	Seq       int64
	Users     []string // user and peer for relations; the audience's part
	Relation  int16    // what user is to peer: as parley.v1.RelationKind 1 friend, 2 requested; 3 blocked; 0 none
	State     State
	Attempts  int // since it was queued or replayed
	QueuedAt  time.Time
	DueAt     time.Time
}

// Attempt is one request. Error is empty when it succeeded, else one of the Err constants.
type Attempt struct {
	At     time.Time
	Status int // 0: no answer
	Error  string
	Took   time.Duration
}

// Classes of what went wrong. Receivers' own words are kept nowhere: they might repeat a body that is recalled later.
const (
	ErrStatus   = "status"
	ErrRedirect = "redirect"
	ErrTimeout  = "timeout"
	ErrDenied   = "address_denied"
	ErrConnect  = "connect"
	ErrTLS      = "tls"
	ErrDNS      = "dns"
	ErrSecret   = "secret"
	ErrProtocol = "protocol"
)

// Schedule is how long after each failed attempt the next one comes, give or take a tenth: 13 attempts over about 68 hours.
// After the last one the delivery is given up.
var Schedule = []time.Duration{5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, 30 * time.Minute, time.Hour,
	2 * time.Hour, 4 * time.Hour, 8 * time.Hour, 12 * time.Hour, 16 * time.Hour, 24 * time.Hour}

// Refusals.
var (
	unavailable = refusal.New(refusal.WebhookUnavailable, "There is no such webhook.")
	off         = refusal.New(refusal.WebhooksOff, "This server has no key for the secrets of webhooks: set PARLEY_WEBHOOK_KEY.")
	// ErrModerationTaken is for stores: another webhook moderates.
	ErrModerationTaken = refusal.New(refusal.ModerationTaken, "Another webhook moderates already.")
	tooMany            = refusal.New(refusal.TooManyWebhooks, "There are as many webhooks as there may be.")
)
