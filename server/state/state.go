package state

import (
	"bytes"
	"sort"

	"github.com/google/uuid"

	"github.com/parley-im/parley/server/session"
)

// View is a user's cursors and count in one session.
type View struct {
	SessionID    uuid.UUID
	Active       bool  // the user is a member now
	ReadSeq      int64 // the watermark: everything up to here is read
	DeletedToSeq int64 // everything up to here is deleted for the user
	MarkedUnread bool
	Unread       int64 // countable entries not read; 0 once the membership has ended
}

// Exception is a state of one message that the cursors do not tell.
type Exception struct {
	SessionID uuid.UUID
	Seq       int64
	Read      bool
	Deleted   bool
}

// Kept is what is stored of a user's states in one session, all of it of one moment.
type Kept struct {
	SessionID    uuid.UUID
	ReadSeq      int64
	DeletedToSeq int64
	MarkedUnread bool
	// Exceptions ascend by seq. Those that say no more than the cursors may be left out.
	Exceptions []Exception
	// Whole is true where Exceptions are all of them, not only those within the ranges that were asked for.
	Whole bool
}

// Standing is what a user can see of a session and has read of it.
type Standing struct {
	Visible      session.Visibility
	Head         int64 // the session's last seq, visible or not
	Active       bool  // the user is a member now
	ReadSeq      int64
	DeletedToSeq int64
	MarkedUnread bool
}

// Last returns the last seq that the user can see: the head, or where the membership ended. 0 means nothing.
func (s Standing) Last() int64 { return s.Visible.Last(s.Head) }

// Part is what the rights to read and to list depend on; ok says whether there is a standing.
func (s Standing) Part(ok bool) session.Part { return session.Part{Known: ok, Active: s.Active} }

// view is the standing with a count.
func (s Standing) view(id uuid.UUID, unread int64) View {
	return View{
		SessionID: id, Active: s.Active, ReadSeq: s.ReadSeq, DeletedToSeq: s.DeletedToSeq, MarkedUnread: s.MarkedUnread,
		Unread: unread,
	}
}

// Of returns what each message of the view's session is to the user. exceptions must be in ascending order of session
// and seq, as the store gives them; those of other sessions are passed over. They must be as old as the view or older:
// an exception disappears when the watermark absorbs it, so read exceptions first and views then.
//
// The function takes a seq, whether the user sent the entry, and whether it counts as unread for those who have not read
// it (a countable type, not recalled). Entries that do not count have nothing to be read and count as read. It is safe
// for concurrent use while nobody writes to exceptions.
func Of(v View, exceptions []Exception) func(seq int64, own, countable bool) (read, deleted bool) {
	from := sort.Search(len(exceptions), func(i int) bool {
		return bytes.Compare(exceptions[i].SessionID[:], v.SessionID[:]) >= 0
	})
	mine := exceptions[from:]
	mine = mine[:sort.Search(len(mine), func(i int) bool { return mine[i].SessionID != v.SessionID })]
	return func(seq int64, own, countable bool) (read, deleted bool) {
		var e Exception
		if at := sort.Search(len(mine), func(i int) bool { return mine[i].Seq >= seq }); at < len(mine) && mine[at].Seq == seq {
			e = mine[at]
		}
		deleted = seq <= v.DeletedToSeq || e.Deleted
		read = own || !countable || deleted || seq <= v.ReadSeq || e.Read
		return read, deleted
	}
}
