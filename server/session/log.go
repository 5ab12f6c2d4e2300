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
// membership of it begins, ends or changes its role, until the transaction ends. Not safe for concurrent use. Implemented
// by storage.
//
// Members, roles and settings are changed by an entry and a row: append the entry first, then change the row as of the
// entry's seq.
type Log interface {
	// Session returns the session as locked, with all that was done through this Log; ok is false when there is none.
	Session() (s Session, ok bool)
	// Member returns a membership, ended ones too; ok is false when the user never was a member.
	Member(ctx context.Context, userID string) (m Membership, ok bool, err error)
	// CountRole returns how many members have the role now.
	CountRole(ctx context.Context, role Role) (int64, error)
	// Candidates tells what stands against making users members when by asks for it: one answer per id, in their order.
	Candidates(ctx context.Context, by string, userIDs []string) ([]Candidate, error)
	// Full locks the users of near, so that no direct session of theirs is made and nobody else's Full returns before the
	// transaction ends, and returns those of all who are in at least limit sessions then, in any order.
	Full(ctx context.Context, near, all []string, limit int) ([]string, error)
	// Create makes a group of s with head 0 and no members. Session must have said that there is none.
	Create(ctx context.Context, s Session) error
	// Update stores title, picture and settings of s.
	Update(ctx context.Context, s Session) error
	// Join makes available users members as of the entry seq. They see the log from there or, with fromStart, from its
	// first entry; who was a member before keeps what they could see, and their cursors. Members stay as they are.
	Join(ctx context.Context, userIDs []string, role Role, seq int64, fromStart bool) error
	// Leave ends a membership with the entry seq, the last that the user sees of it.
	Leave(ctx context.Context, userID string, seq int64) error
	// SetRole gives a member a role.
	SetRole(ctx context.Context, userID string, role Role) error
	// SetMuted mutes or unmutes a member.
	SetMuted(ctx context.Context, userID string, muted bool) error
	// Message returns what a recall needs to know; ok is false when there is no such entry.
	Message(ctx context.Context, seq int64) (m LoggedMessage, ok bool, err error)
	// Erase erases the body of an entry that was not recalled before; recallSeq is the entry that recalls it.
	Erase(ctx context.Context, seq, recallSeq int64) error
	// Append writes the next entry and returns it. The type follows from the content, which must be a log event. now is
	// kept to the microsecond.
	Append(ctx context.Context, by Actor, content *parleyv1.Content, now time.Time) (message.Entry, error)
}

// Candidate is what stands against making a user a member.
type Candidate struct {
	UserID string
	// Available is false for users who do not exist, are deactivated or have blocked the one who asks.
	Available bool
	// Member is true for users who are members now.
	Member bool
	// Parts is how many parts of the log a former member sees; 0 for all others.
	Parts int
}

// LoggedMessage is what a recall needs to know of its message.
type LoggedMessage struct {
	SenderID  string
	Type      message.Type
	RecallSeq int64 // 0: not recalled
}

// Change is one change of a session's log beside plain sends: it checks its rules against the locked session and writes
// through l. An error rolls all of it back. It may be run again from the start after a lost race, so it must not keep
// state from an earlier run; and it may still be running when Committer.Change has returned an error.
type Change func(ctx context.Context, l Log) error

// Committer runs changes in their place among the session's sends and hands the new entries on.
type Committer interface {
	// Change runs fn and returns when it is committed and on disk. Refusals of fn come back as they are.
	Change(ctx context.Context, sessionID uuid.UUID, fn Change) error
}

// EncodeBody encodes content as an entry's Body.
func EncodeBody(content *parleyv1.Content) ([]byte, error) {
	return proto.MarshalOptions{Deterministic: true}.Marshal(&parleyv1.Message{Content: content})
}

// EventType returns the type of the entry that has this log event as its content; ok is false for content that is none.
func EventType(content *parleyv1.Content) (t message.Type, ok bool) {
	switch content.GetKind().(type) {
	case *parleyv1.Content_Recall:
		return message.TypeRecall, true
	case *parleyv1.Content_MemberChange:
		return message.TypeMemberChange, true
	case *parleyv1.Content_SessionChange:
		return message.TypeSessionChange, true
	}
	return 0, false
}
