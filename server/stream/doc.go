// Package stream delivers: a Stream is one live Subscribe call of one device and carries all sessions of its user.
//
// # One mechanism for backlog, gaps and slow readers
//
// For every session a stream keeps a track: the last seq handed to the writer (taken) and the highest seq known (head).
// A track is live or behind. A live track takes offered entries whose seq is exactly the next one into the stream's queue.
// Everything else makes it behind: the backlog at the start, an offered entry that leaves a gap, a head learnt without
// its entry, and the queue at its bound (then the queue is dropped and all its tracks fall behind). A track that is
// behind queues nothing, it only remembers the head; the writer pulls the range (taken, head] page by page through the
// Reader and, once nothing is left, makes it live again, under the lock, so that no entry falls between. So memory is
// bounded whatever the reader does, nothing is lost, and no seq is sent twice, out of order, or after a hole. What the
// user cannot see or did not ask for is told by a Skipped event.
//
// # The cut
//
// A member change that removes the user is the last entry of a track. Its place in the log decides, on the live path and
// on the pulled one alike, not the time at which the server learnt of it.
//
// # Parked streams
//
// A stream whose sink is Detachable is parked once it has caught up: it leaves its call and has neither a goroutine of
// ours nor a buffer until something wakes it. Then one of the few writers (writers.go) sends what waits, as one frame and
// without waiting. What may take its time, because the connection is full, there is something to pull or the stream ends,
// gets a goroutine of the stream's own, which parks it again (resume). Other sinks keep their call's goroutine.
//
// # Who owns what
//
// At any time at most one goroutine is a stream's writer: that of the call, one of the writers, or the stream's own. It
// owns the frame, the sink, and which tracks exist; it is handed on under Stream.mu, which is why a parked stream is
// never waited for. Stream.mu guards the queue, the fields of tracks, and the pending user events; publishers hold it for
// a few instructions and never wait for the writer. Order of locks: Manager.mu, then Stream.mu; hub topic, then
// Stream.mu; Stream.mu, then writers.mu. The writer calls the hub only without Stream.mu.
package stream
