// Package state is the domain of what messages are to users: read, unread, deleted for oneself.
//
// State belongs to (user, message) and is kept sparse. A user has two cursors per session: the watermark read_seq, up to
// which everything is read, and the line deleted_to_seq, up to which everything is deleted for that user. What differs
// from the cursors is an exception of its own: read out of order above the watermark, deleted above the line. Together
// they answer for every message exactly (see Of), and a message costs no write per member, however large the group.
//
// Invariants, which every change keeps:
//   - cursors never move back, and never pass the last seq that the user can see (session.Visibility);
//   - deleted_to_seq <= read_seq: what is deleted counts as read;
//   - an exception lies on a visible entry and always says read, some say deleted too;
//   - sending moves the watermark to the own entry, so own entries are never above it.
//
// Marks of single messages let the watermark absorb: it goes on over everything that is read out of order, does not
// count as unread or was recalled, up to the first entry still unread. Marks up to a seq move it to that seq exactly.
//
// Unread counts are computed, never incremented; the formula is the SQL function parley_unread.
//
// Changes of one (user, session) run one after another under the lock of its row. They hold no other lock that anybody
// waits for: sends lock a session first and its members' rows then, so a change must not touch the session's lock.
//
// Changes are committed in groups: a group's goroutine takes all that waits, with no artificial delay, at most MaxBatch,
// into one transaction with one row of the commit log. Each change is judged by itself, and a refused one never fails the
// others. Changes of one key that only move cursors are applied one after the other; one of single messages has its key
// for itself, so that the number of round trips does not grow with the batch. The transaction locks its rows in the order
// of Key.Compare and waits for none: a batch that waited with locks in hand could deadlock with a send's batch, which
// locks its senders' rows in whatever order the planner likes. What is locked waits in a transaction of its own, at most
// maxAlone at a time. A caller who leaves before that is skipped; later the change happens all the same.
//
// Owners: group.mu guards the queue. The goroutine of a group lives while something waits; Close waits for it.
package state
