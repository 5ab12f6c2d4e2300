package session

import (
	"context"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/message"
)

// Actor is who causes a change: a user on a device.
type Actor struct{ UserID, DeviceID string }

// Log is one session inside an open transaction that holds the session's lock: nobody else appends to it, and no
// membership of it changes, until the transaction ends. Not safe for concurrent use. Implemented by storage.
type Log interface {
	// Session returns the session as locked, with this transaction's own appends counted in LastSeq; ok is false when
	// there is none.
	Session() (s Session, ok bool)
	// Member returns a membership, ended ones too; ok is false when the user never was a member.
	Member(ctx context.Context, userID string) (m Membership, ok bool, err error)
	// CountRole returns how many members have the role now.
	CountRole(ctx context.Context, role Role) (int64, error)
	// Create makes the session with head 0 and no members. Append the entry that adds them next.
	Create(ctx context.Context, s Session) error
	// Update stores title, picture and settings of s.
	Update(ctx context.Context, s Session) error
	// Join makes the users members as of seq, who see the log from visible on; those who were members before keep what
	// they could see. Users that do not exist or are deactivated are passed over; the ids of those who joined come back
	// in byte order. It runs before the entry is appended: seq is then LastSeq+1.
	Join(ctx context.Context, userIDs []string, role Role, seq int64, fromStart bool) (joined []string, err error)
	// Leave ends a membership at seq.
	Leave(ctx context.Context, userID string, seq int64) error
	// SetRole gives a member a role.
	SetRole(ctx context.Context, userID string, role Role) error
	// SetMuted mutes or unmutes a member.
	SetMuted(ctx context.Context, userID string, muted bool) error
	// Message returns what a recall needs to know; ok is false when there is no such entry.
	Message(ctx context.Context, seq int64) (m LoggedMessage, ok bool, err error)
	// Erase erases the body of an entry, recalled by the entry recallSeq.
	Erase(ctx context.Context, seq, recallSeq int64) error
	// Append writes the next entry and returns it.
	Append(ctx context.Context, by Actor, content *parleyv1.Content, now time.Time) (message.Entry, error)
}

// LoggedMessage is what a recall needs to know of its message.
type LoggedMessage struct {
	SenderID  string
	Type      message.Type
	RecallSeq int64 // 0: not recalled
}

// Change is one change of a session's log beside plain sends: it checks its rules against the locked session and writes
// through l. An error rolls all of it back. It may be run again from the start after a lost race, so it must not keep
// state from an earlier run.
type Change func(ctx context.Context, l Log) error

// Committer runs changes in their place among the session's sends and hands the new entries on.
type Committer interface {
	// Change runs fn and returns when it is committed and on disk. Errors of fn come back as they are.
	Change(ctx context.Context, sessionID uuid.UUID, fn Change) error
}

// EncodeBody encodes content as an entry's Body.
func EncodeBody(content *parleyv1.Content) ([]byte, error) {
	return proto.MarshalOptions{Deterministic: true}.Marshal(&parleyv1.Message{Content: content})
}
