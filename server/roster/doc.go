// Package roster is the relation map: all of user_to_user, user_to_device and user_to_session in this node's memory, as a
// read-only cache of PostgreSQL that knows how old it is.
//
// # Shape
//
// Ids are interned to numbers below 2^28 (names.go, index.go). A row is an edge from one number to another with four bits
// of traits, packed into a uint32; a list is a sorted run of edges in one arena that all lists share (lists.go).
// Memberships are kept in both directions. All of it is slices of numbers and bytes without a pointer in them, so that the
// garbage collector sees a few dozen objects, however many rows there are. A membership takes 8 bytes, and with its
// part of users, sessions and devices about 20 to 45 (34 where half of them are in direct sessions); TestBytesPerMembership measures it. Loading takes 8 bytes more per
// row while it lasts. Config.MaxBytes bounds the whole: a map that would be larger is let go, and the node answers from
// PostgreSQL.
//
// # Staying right
//
// Load reads whole tables in one REPEATABLE READ snapshot, which is taken after the one that the feed goes on from; so
// every change is either in the snapshot or told by the feed (or both, which is harmless). What the feed tells is only
// which row changed. The row is read again as it is now and put in the place of the one in memory, or taken out if it is
// gone. So it does not matter how often or in which order changes are told. Changes told while a load is under way are
// kept, and read again after it. A change whose row could not be read stays pending, and with one pending nothing is
// answered.
//
// An answer is fresh while no more than MaxAge has passed since the last poll all of whose changes are in the map, counted
// from before that poll asked PostgreSQL. What is not fresh is no answer: the caller goes to PostgreSQL. So it does after
// every negative answer too ("no such device", "no member"), since what is missing may have been added a moment ago; the
// decorators (decorate.go) do both. After a gap in the feed (Lost) the map answers nothing until it is loaded again.
//
// # Locks and goroutines
//
// Run, owned by the caller, loads. The feed's goroutine calls Apply, Polled and Lost. Order of locks: loadMu, then
// applyMu, then mu. applyMu is held while rows are read again and is what makes reading a row and storing it one step
// beside other changes and beside the swap to a newly loaded map. mu guards the map and is never held while waiting for
// PostgreSQL; the longest it is held for writing is a compaction of a list arena, one copy of it.
package roster
