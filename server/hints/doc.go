// Package hints tells other nodes at once what this node committed, over Redis sharded pub/sub. A hint may be lost, come
// twice or late, and nothing depends on it: what it tells is found in PostgreSQL by package feed within its next poll. So
// everything in here is at most once, bounded, and never waits for anybody.
//
// Interest. A node subscribes to the channel of a session while a local stream may see the session, and to the channel of
// a user while the user has a local stream; Redis does the routing. Channels lie in a fixed number of buckets, each with a
// hash tag of its own, so that all channels of a bucket have one slot in a Redis Cluster: a node needs one connection per
// bucket there (Buckets), and a single one where Redis is one server. Channels without interest are given up some seconds
// later, so that a device which reconnects costs nothing.
//
// Links. Each connection is a link with two goroutines: one receives, the other subscribes, gives up and probes. A probe
// is a hint to oneself, from end to end: published like any other and awaited on the link. A link whose probe does not
// come back for probePatience is closed and opened anew, whatever state the connection claims to be in. While a link is
// down, or there is none, the feed is asked to poll more often (Urgent).
//
// Others. Every node says every beatEvery that it is there. As long as no other node was heard for peerPatience, nothing
// is published: a node alone pays nothing. A node that joins says so at once and is answered at once; what is committed in
// between it finds by its feed.
//
// Locks: interest.mu guards what is wanted; it is taken below the hub's locks and nothing is called under it. Hints.mu
// guards the queue and the peers. Neither is held together with the other.
package hints
