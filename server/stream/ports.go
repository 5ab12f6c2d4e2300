package stream

import (
	"context"

	"github.com/google/uuid"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/session"
	"github.com/parley-im/parley/server/wire"
)

// Position is where a user and a device stand in one session.
type Position struct {
	SessionID    uuid.UUID
	Visible      session.Visibility
	Role         session.Role
	Settings     Settings
	Active       bool  // a member now
	JoinedSeq    int64 // of the present or last membership
	DeletedToSeq int64
	Head         int64 // the session's last seq
	Acked        int64 // the device's cursor, meaningful when HasCursor
	HasCursor    bool
	State        Standing // only from Starter
}

// Ask is a device's question where it starts.
type Ask struct {
	UserID, DeviceID string
	Fresh            bool // the device's cursors do not count
	Named            bool // sessions that ended are wanted too where the device has acknowledged their end
	Counted          bool // what is unread is wanted
	RoamBacklog      int64
}

// Start is all that a device needs to start, as it was at one moment.
type Start struct {
	Known     bool  // false for devices that were revoked or never registered
	Number    int64 // of the stream that starts: the higher, the newer, over all nodes
	Synced    bool  // the device has taken its sessions over before: if not, it roams, and its cursors do not count
	Positions []Position
}

// unread is the number of the user's unread messages.
func (st Start) unread() (total int64) {
	for _, p := range st.Positions {
		total += p.State.View.Unread
	}
	return total
}

// Starter answers devices that come back.
type Starter interface {
	// Starts answers all asks, in order, from one statement. The positions of each are those of all sessions the user is
	// in, and of those left whose end the device has not acknowledged, ascending by session id. An error answers none.
	Starts(ctx context.Context, asks []Ask) ([]Start, error)
}

// Settings are what of a membership a SessionEvent tells beside its bounds.
type Settings struct{ Muted, NotificationsMuted, Pinned, Archived bool }

// Cursor is a position in a session's log: everything up to Seq is known.
type Cursor struct {
	SessionID uuid.UUID
	Seq       int64
}

// Sessions tells which sessions a user can see.
type Sessions interface {
	// ActiveSessionIDs returns the sessions that the user is a member of now.
	ActiveSessionIDs(ctx context.Context, userID string) ([]uuid.UUID, error)
	// Positions returns where the user and the device stand in the given sessions. Sessions that the user never was in are
	// left out.
	Positions(ctx context.Context, userID, deviceID string, ids []uuid.UUID) ([]Position, error)
	// View returns the session as the user sees it, for a SessionEvent.
	View(ctx context.Context, userID string, id uuid.UUID) (*parleyv1.Session, error)
}

// Devices keeps what is known of devices.
type Devices interface {
	// StartSync stores where a new (or fresh) device starts and marks it as synced, in one transaction. Cursors that the
	// device had before are forgotten.
	StartSync(ctx context.Context, userID, deviceID string, at []Cursor) error
	// Seen notes that the device is online, or was until now, and tells the other nodes of its stream. It never blocks, and
	// calls nothing of the manager.
	Seen(userID, deviceID string, number int64)
}

// Reader reads entries back.
type Reader interface {
	// Read returns the entries of each range, all of them and in order: from+1 ... to. An error if it cannot.
	Read(ctx context.Context, ranges []message.Range) ([][]*wire.Entry, error)
	// Recent is Read of one range that is in memory, false if it is not. It waits for nothing and calls nothing of here.
	Recent(q message.Range) ([]*wire.Entry, bool)
}

// States tells what messages are to a user.
type States interface {
	// StatesOf returns a function that answers for the entries of the given ranges.
	StatesOf(ctx context.Context, userID string, ranges []message.Range) (StateOf, error)
}

// Epoch tells the present life of the log.
type Epoch interface{ Current() string }

// Sink is where a stream's frames go. Send writes and flushes one frame within the write deadline; an error ends the
// stream. It is called by one goroutine.
type Sink interface {
	Codec() wire.Codec
	Send(f *wire.Frame) error
}

// Detachable is a sink that may outlive the call in which it began.
type Detachable interface {
	Sink
	// Detach takes the connection from the call: once a stream is parked, Serve returns and the call ends, but the stream
	// goes on. end is to be called when the peer goes. It returns nil where the connection cannot be taken; the sink then
	// stays as it is. After Detach only what it returned is used.
	Detach(end func(why error)) Direct
}

// Direct is a sink on a connection of its own. Like any sink it is used by one goroutine at a time.
type Direct interface {
	// Sink's Send does not wait: it gives the connection what that takes at once and keeps the rest. Only if there is a
	// rest from before, it first does what Finish does.
	Sink
	// Waiting reports whether a rest is kept.
	Waiting() bool
	// Finish writes the rest within the write deadline.
	Finish() error
	// Context is what the stream works in when it has to wait for something.
	Context() context.Context
	// End says why the stream ends, nil for no error, and closes the connection.
	End(why error)
}
