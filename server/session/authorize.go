package session

import "github.com/parley-im/parley/server/refusal"

// Action is what somebody wants to do in a session. The zero value is nothing that anybody may do.
type Action string

// The actions. What is done by several rpcs in the same right is one action.
const (
	// Read is reading what can be seen of the log, and moving one's own cursors over it.
	Read Action = "read"
	// ListMembers is asking who is in a session, and who has read a message.
	ListMembers Action = "list members"
	// SetOwn is changing one's own settings of a session.
	SetOwn Action = "own settings"
	// Send is sending a message. Its twin is in parley_append, for a whole batch in its transaction.
	Send Action = "send"
	// Signal is sending something that passes, such as typing: writing, too.
	Signal Action = "signal"
	// RecallOwn is taking back what one sent.
	RecallOwn Action = "recall own"
	// RecallOthers is taking back what somebody else sent.
	RecallOthers Action = "recall others'"
	// Update is changing title and settings of a group.
	Update Action = "update"
	// Add is making users members.
	Add Action = "add"
	// Remove is ending somebody else's membership.
	Remove Action = "remove"
	// Leave is ending one's own.
	Leave Action = "leave"
	// Manage is asking for something about another member; Remove, GiveRole and Mute say who gets it.
	Manage Action = "manage"
	// GiveRole is giving somebody a role.
	GiveRole Action = "give role"
	// Mute is muting somebody, or ending that.
	Mute Action = "mute"
)

// right is what an action needs. Every field that is set takes something away, but former.
type right struct {
	former   bool // those who were members before may, too
	group    bool // not in direct sessions
	unmuted  bool // not while muted
	sendRole bool // not below the session's SendRole
	reaching bool // not where a block or a deactivation stands between the two of a direct session
	above    bool // not on a member whose role is as high as one's own
	least    Role // not below this role
}

// rights are all that may be done in sessions, and by whom. What is not here nobody may do.
var rights = map[Action]right{
	Read:         {former: true},
	ListMembers:  {},
	SetOwn:       {},
	Send:         {unmuted: true, sendRole: true, reaching: true},
	Signal:       {unmuted: true, reaching: true},
	RecallOwn:    {},
	RecallOthers: {group: true, least: RoleAdmin, above: true},
	Update:       {group: true, least: RoleAdmin},
	Add:          {group: true, least: RoleAdmin},
	Remove:       {group: true, least: RoleAdmin, above: true},
	Leave:        {former: true, group: true},
	Manage:       {group: true},
	GiveRole:     {group: true, least: RoleOwner},
	Mute:         {group: true, least: RoleAdmin, above: true},
}

// Reach is what stands between the two users of a direct session.
type Reach int16

// What can stand there; of several the first counts.
const (
	Reachable    Reach = iota
	BlockedByYou       // the user has blocked the other
	Unreachable        // the other has blocked the user, or is deactivated
)

// Part is somebody's part in a session: all that the rights depend on. The zero value is a stranger's, and that in a session
// that does not exist: the two are one.
type Part struct {
	Known    bool // is or was a member
	Active   bool // is a member
	Kind     Kind
	Role     Role
	Muted    bool
	SendRole Role // the session's
	Reach    Reach
}

// PartIn is the member's part in a session, which must be the membership's. Reach is as the store read it.
func (m Membership) PartIn(s Session) Part {
	return Part{Known: true, Active: m.Active(), Kind: s.Kind, Role: m.Role, Muted: m.Muted, SendRole: s.SendRole, Reach: m.Reach}
}

// Authorize is the one place that says whether somebody with this part may do something in a session: nil, or the refusal,
// SESSION_UNAVAILABLE first. It knows nothing of other members; see AuthorizeOver.
func Authorize(a Action, p Part) error {
	r, ok := rights[a]
	switch {
	case !ok || !p.Known || !p.Active && !r.former:
		return Unavailable
	case r.group && p.Kind != KindGroup:
		return DirectOnly
	case r.unmuted && p.Muted:
		return Muted
	case r.sendRole && p.Role < p.SendRole, p.Role < r.least:
		return RoleTooLow
	case r.reaching && p.Reach == BlockedByYou:
		return BlockedPeer
	case r.reaching && p.Reach == Unreachable:
		return PeerUnavailable
	}
	return nil
}

// AuthorizeOver is Authorize for what is done to another user of the session, who has the part of. Who is no member any more
// stands above nobody.
func AuthorizeOver(a Action, p, of Part) error {
	if err := Authorize(a, p); err != nil {
		return err
	}
	if rights[a].above && of.Active && p.Role <= of.Role {
		return RoleTooLow
	}
	return nil
}

// The refusals of Authorize, and one more of sending. They are shared and therefore never changed.
var (
	// Unavailable is the one answer to "no such session" and "not yours to see": the two must look the same.
	Unavailable     = refusal.New(refusal.SessionUnavailable, "There is no such session for you.")
	DirectOnly      = refusal.New(refusal.DirectSession, "Only groups can do this.")
	Muted           = refusal.New(refusal.Muted, "You are muted in this session.")
	RoleTooLow      = refusal.New(refusal.RoleTooLow, "Your role in this session does not allow this.")
	BlockedPeer     = refusal.New(refusal.RecipientBlockedByYou, "You have blocked this user.")
	PeerUnavailable = refusal.New(refusal.RecipientUnavailable, "This user cannot be reached.")
	// TooMany is the answer to who is in too many sessions to begin a direct one. That the other user is, is nobody's business:
	// then it is PeerUnavailable.
	TooMany = refusal.New(refusal.TooManySessions, "You are in as many sessions as a user may be in.")
)
