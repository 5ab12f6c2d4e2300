// Package message is the domain of a session's log: its entries, what may be sent, recalled and read.
package message

import (
	"time"

	"github.com/google/uuid"
)

// Type is the kind of a log entry. The numbers are those of parley.v1.MessageType and of msg.type.
type Type int16

// The kinds of entries. Text, Attachment and Custom are written by people and count as unread; the others are log
// events made by the server.
const (
	TypeText          Type = 1
	TypeAttachment    Type = 2
	TypeCustom        Type = 3
	TypeRecall        Type = 4
	TypeMemberChange  Type = 5
	TypeSessionChange Type = 6
)

// Countable reports whether entries of this type count as unread.
func (t Type) Countable() bool { return t >= TypeText && t <= TypeCustom }

// Entry is one committed entry of a session's log. Entries are immutable and shared between goroutines: nobody writes to
// Body.
type Entry struct {
	SessionID    uuid.UUID
	Seq          int64 // 1, 2, 3 ... in its session, without holes
	MessageID    uuid.UUID
	SenderID     string
	SenderDevice string // empty for changes made by the app's own server
	Type         Type
	// Body is an encoded parley.v1.Message with only content, reply_to_seq and mentions set; nil when IsDeleted.
	Body      []byte
	IsDeleted bool
	CreatedAt time.Time
}

// Erased returns the entry as it is after its recall.
func (e Entry) Erased() Entry {
	e.Body, e.IsDeleted = nil, true
	return e
}

// Draft is a validated message on its way to the log.
type Draft struct {
	SessionID    uuid.UUID
	MessageID    uuid.UUID
	SenderID     string
	SenderDevice string
	Type         Type
	Body         []byte // as in Entry
	Digest       int64  // see Digest
	ReplyTo      int64  // 0: none
	// Peer is the other user when the target is a direct session that may not exist yet; empty otherwise.
	Peer string
}

// Receipt is the answer to a committed send. A repeated send gets the first one's.
type Receipt struct {
	Epoch     string // the log's life in which it was committed; empty where the store does not tell
	SessionID uuid.UUID
	MessageID uuid.UUID
	Seq       int64
	CreatedAt time.Time
}

// Range is the entries of a session with From < seq <= To.
type Range struct {
	SessionID uuid.UUID
	From, To  int64
}
