// Package session is the domain of conversations: who is in them with which rights, and which part of the log each
// member can see.
package session

import (
	"bytes"
	"time"

	"github.com/google/uuid"
)

// Kind tells direct sessions from groups. The numbers are those of parley.v1.SessionKind and of session.kind.
type Kind int16

// The kinds of sessions.
const (
	KindDirect Kind = 1
	KindGroup  Kind = 2
)

// Role is a member's rank. The numbers are those of parley.v1.MemberRole and of user_to_session.role; higher may more.
type Role int16

// The roles.
const (
	RoleMember Role = 1
	RoleAdmin  Role = 2
	RoleOwner  Role = 3
)

// Session is a conversation, whoever looks at it.
type Session struct {
	ID             uuid.UUID
	Kind           Kind
	OwnerID        string // who made it; ownership as a right is the role
	DirectLow      string // the two users of a direct session in byte order; empty for groups
	DirectHigh     string
	Title          string
	AvatarURL      string
	HistoryVisible bool
	SendRole       Role
	MemberCount    int32
	LastSeq        int64
	CountableTotal int64
	CreatedAt      time.Time
}

// Peer returns the other user of a direct session, and the empty string for groups.
func (s Session) Peer(userID string) string {
	switch {
	case s.Kind != KindDirect:
		return ""
	case s.DirectLow == userID:
		return s.DirectHigh
	default:
		return s.DirectLow
	}
}

// Membership is one user's part in a session, kept after leaving for what can still be seen.
type Membership struct {
	UserID             string
	SessionID          uuid.UUID
	Role               Role
	JoinedSeq          int64
	LeftSeq            int64 // 0 while a member
	Visible            Visibility
	ReadSeq            int64
	DeletedToSeq       int64
	MarkedUnread       bool
	Muted              bool // by an admin: may not send
	NotificationsMuted bool
	Pinned             bool
	Archived           bool
	Reach              Reach // only where Store.Membership read it
}

// Active reports whether the user is a member now.
func (m Membership) Active() bool { return m.LeftSeq == 0 }

// VisibleFrom returns the first seq that the user can see in the present or, after its end, the last membership.
func (m Membership) VisibleFrom() int64 {
	if len(m.Visible) == 0 {
		return 0
	}
	return m.Visible[len(m.Visible)-1].From
}

// directNamespace makes the ids of direct sessions differ from all other name-based UUIDs.
var directNamespace = uuid.MustParse("8f1d3c5a-2f5e-5c0b-9f53-6f2d5b1a7e90")

// DirectID returns the id of the direct session of two users, the same whichever is named first: a version 5 UUID over
// both ids in byte order, each preceded by its length so that no two pairs collide. low and high are the ids in that
// order.
func DirectID(a, b string) (id uuid.UUID, low, high string) {
	if a > b {
		a, b = b, a
	}
	var name bytes.Buffer
	for _, s := range []string{a, b} {
		name.WriteByte(byte(len(s))) //nolint:gosec // ids have at most 64 bytes
		name.WriteString(s)
	}
	return uuid.NewSHA1(directNamespace, name.Bytes()), a, b
}
