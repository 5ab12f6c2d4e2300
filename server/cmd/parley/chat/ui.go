package chat

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

// UI is where a person, or a script, sits. Its methods are called by one goroutine.
type UI interface {
	// Message shows an entry.
	Message(m Line)
	// Note shows something about the chat itself.
	Note(text string)
	// Status shows how things are now; called when that changes.
	Status(s Status)
	// Lines gives what was entered, a line each; closed when nothing more comes.
	Lines() <-chan string
	// Err says why nothing more comes, once Lines is closed; nil when the input simply ended.
	Err() error
	// Keys tells that somebody is typing here; nil where that cannot be told.
	Keys() <-chan struct{}
}

// Status is what a UI shows beside the messages.
type Status struct {
	// Typing names the others who are typing, in order.
	Typing []string
	// Waiting is how many messages wait because they did not get through.
	Waiting int
	// Offline is true while there is no stream.
	Offline bool
}

func (s Status) equal(o Status) bool {
	return slices.Equal(s.Typing, o.Typing) && s.Waiting == o.Waiting && s.Offline == o.Offline
}

// Line is an entry, ready to be shown: nothing in it can control a terminal.
type Line struct {
	Seq    int64
	At     time.Time
	Sender string
	Own    bool
	Event  bool // something that happened, rather than something that was said
	Text   string
}

func lineOf(m *parleyv1.Message, user string) Line {
	l := Line{Seq: m.GetSeq(), At: m.GetCreatedAt().AsTime().Local(), Sender: clean(m.GetSenderId()),
		Own: m.GetSenderId() == user}
	l.Text, l.Event = textOf(m)
	l.Text = clean(l.Text)
	return l
}

func textOf(m *parleyv1.Message) (text string, event bool) {
	if m.GetIsDeleted() {
		return "(recalled)", false
	}
	if m.GetState().GetIsDeleted() {
		return "(deleted by you)", false
	}
	switch c := m.GetContent().GetKind().(type) {
	case *parleyv1.Content_Text:
		return c.Text.GetBody(), false
	case *parleyv1.Content_Attachment:
		name := c.Attachment.GetName()
		if name == "" {
			name = c.Attachment.GetMediaType()
		}
		return strings.TrimSpace(fmt.Sprintf("[%s] %s %s", name, c.Attachment.GetUrl(), c.Attachment.GetCaption())), false
	case *parleyv1.Content_Custom:
		return fmt.Sprintf("[%s, %d bytes]", c.Custom.GetTypeUrl(), len(c.Custom.GetPayload())), false
	case *parleyv1.Content_Recall:
		return fmt.Sprintf("recalled #%d", c.Recall.GetSeq()), true
	case *parleyv1.Content_MemberChange:
		return memberText(c.MemberChange), true
	case *parleyv1.Content_SessionChange:
		if c.SessionChange.Title != nil {
			return fmt.Sprintf("changed the title to %q", c.SessionChange.GetTitle()), true
		}
		return "changed the settings", true
	default:
		return "(a message of a kind that this program does not know)", false
	}
}

func memberText(c *parleyv1.MemberChange) string {
	who := strings.Join(c.GetUserIds(), ", ")
	switch c.GetKind() {
	case parleyv1.MemberChangeKind_MEMBER_CHANGE_KIND_CREATED:
		return "started the group with " + who
	case parleyv1.MemberChangeKind_MEMBER_CHANGE_KIND_ADDED:
		return "added " + who
	case parleyv1.MemberChangeKind_MEMBER_CHANGE_KIND_REMOVED:
		return "removed " + who
	case parleyv1.MemberChangeKind_MEMBER_CHANGE_KIND_LEFT:
		return "left"
	case parleyv1.MemberChangeKind_MEMBER_CHANGE_KIND_ROLE_CHANGED:
		return "made " + who + " " + roleName(c.GetRole())
	case parleyv1.MemberChangeKind_MEMBER_CHANGE_KIND_MUTED:
		return "muted " + who
	case parleyv1.MemberChangeKind_MEMBER_CHANGE_KIND_UNMUTED:
		return "unmuted " + who
	default:
		return "changed the members"
	}
}

func roleName(r parleyv1.MemberRole) string {
	return strings.ToLower(strings.TrimPrefix(r.String(), "MEMBER_ROLE_"))
}

// clean takes out what would control the terminal: escape sequences of somebody else's message must not reach it. Line
// ends stay.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n':
			return r
		case r == '\t':
			return ' '
		case unicode.IsControl(r), unicode.Is(unicode.Bidi_Control, r), r == unicode.ReplacementChar:
			return '\uFFFD'
		}
		return r
	}, s)
}
