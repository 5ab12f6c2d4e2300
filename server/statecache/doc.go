// Package statecache keeps users' message states in Redis, as a decorator of state.Store: Kept reads through the cache,
// Change deletes from it. Only Kept is cached, because it is what every page of messages asks for; ListStates, GetUnread
// and the marks themselves need PostgreSQL anyway (the log's entries, counts, locks) and stay with it.
//
// Kept in one key per user and session are the cursors and all exceptions above them. A session with more than
// storage's bound of 500 exceptions is marked as such and read from PostgreSQL each time.
//
// # Never stale
//
// PostgreSQL is the truth, and whoever changes it deletes the key afterwards. Two rules make that enough:
//
//   - A miss is given a lease, a random token in the key itself. A value is stored only while the token that it was read
//     under is still there. A delete takes value and lease away alike, so what was read before a change cannot be stored
//     after it. (Leases are the idea of Nishtala et al., Scaling Memcache at Facebook, NSDI 2013, section 3.2.1.)
//   - Each key is deleted twice: by the node that changed it, after the commit and before the caller has the answer; and
//     by every live node when its feed reads the change from the commit log, whoever made it. So a node that dies between
//     commit and delete, a delete that got lost, and a change by plain SQL that notes itself are repaired within a poll.
//
// What a reader can be told, and for how long:
//
//   - After a mark was answered, and Redis took the delete: never the older state, on any node.
//   - After a mark was answered, and the delete failed: on this node never the older state, since it does not use the
//     cache for the key before it was deleted. On other nodes until their feed has read the change: one poll, about a second.
//   - After a node died between commit and delete: until another node's feed has read the change, likewise.
//   - After a send, which moves the sender's own watermark: the key is deleted behind the answer (Sent), milliseconds
//     later, and by the feed, which knows senders from the commit log. Until then earlier messages may still show as
//     unread to the sender. The same is true of joining and leaving, which the feed alone sees (relation_change).
//   - With no live node nobody reads. A node that starts trusts no value that was stored before.
//   - A Redis that fails over to a replica, or restarts from a snapshot on disk, may bring a deleted value back. A node
//     whose breaker opened meanwhile trusts nothing stored before it closed; of a Cluster likewise, whichever master it was. Where nobody noticed, the value lives until
//     the next change or the TTL; so let the Redis of a cache keep no snapshots.
//
// Trust needs no second clock: what is left of a value's TTL tells its age, and a node that must not trust what is older
// than a moment asks for values younger than the time since. It begins the moment one lease late, for what was then being
// stored.
//
// # No stampede
//
// Of all readers of a missing key, on all nodes, the one with the lease goes to PostgreSQL. The others look again a few
// times, about a quarter of a second in all, then one of them takes the lease over from a holder that seems dead, and the
// rest wait as long again. So nobody waits longer than two such rounds, which is less than a lease. A reader that goes to
// PostgreSQL anyway takes along all that it lacks, also what others are reading: one call is one pipeline to Redis per
// look and at most one query. Queries of one user on one node share flights: one is under way, one waits for it and takes
// all who come meanwhile; nobody joins a flight that has left, since it may not have seen what they just wrote. At most
// maxReads flights ask PostgreSQL at the same time, Redis or not.
//
// # Owners
//
// Store.mu guards what waits to be deleted and the moment of trust, flights.mu the flights; neither is held while Redis or
// PostgreSQL is asked, and neither is taken inside the other. Run deletes what waits, in one goroutine; a user's flights
// have a goroutine while there are any, and Run waits for them at its end.
package statecache
