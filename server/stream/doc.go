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
// What fell behind in an open stream and is in memory costs little more than what was queued: a writer (see below) takes
// it from there, and no states are read for entries of which neither an event nor the device itself has said anything yet
// (fresh.go): they go out as new, as on the live path, and what becomes of them comes behind them. While a page of backlog
// is written the next one is read (ahead.go); it is thrown away if its time comes late.
//
// # The cut
//
// A member change that removes the user is the last entry of a track. Its place in the log decides, on the live path and
// on the pulled one alike, not the time at which the server learnt of it. One that lies before the head with which the
// membership was read is part of what was read: it ends nothing, for the user may have come back since.
//
// # Coming back
//
// A device that opens a stream costs PostgreSQL one statement at most, shared with those that open one at the same time
// (arrivals, which is also where a reconnect storm queues, and is refused past Config.Arrivals). It tells what the device
// is, where it stands in each session, what is unread, the stream's number (displace.go), and the user's states: the
// snapshot that the backlog's entries are shown with. That the device is online is noted behind.
//
// # A device never ends with a stale state
//
// An entry of the backlog goes out with the state that the snapshot or StatesOf gives it; what changes later comes as an
// event. Let a state of session x change by a transaction C, and let the snapshot be the statement S.
//
//   - C committed before S began: S sees it, cursors and exceptions from one snapshot of the database.
//   - C committed later. The stream joined the hub before S began, so the event about C, published after its commit by this
//     node or by its feed, reaches the stream. Let it arrive while entries of x are still to be chosen for writing: it makes
//     x void, for good even if it arrives before S returns, and StatesOf is asked for them, which sees C. Let it arrive
//     after the entries' states were chosen: it is sent behind them, for the writer takes events out before it pulls and
//     writes them after, and the device applies it last. Either way the last word on each entry is not older than C.
//   - The event does not come because the device itself made C: the hub tells the stream all the same (Passed), so that
//     entries chosen after C's answer are not older than it. The answer itself tells the device what C changed.
//   - The feed lost its place: all sessions are void (Lost). A membership changed: its session is void (Joined), since a
//     new membership moves the cursors without an event.
//   - A send moves the sender's watermark without an event. Its entry is in the log: below the snapshot's head S saw the
//     watermark too, above it the device meets the entry later, or has the answer to its send. Sending means having read
//     up to there, on the backlog as on the live path.
//
// An exception that a watermark absorbs disappears in the same transaction, so that S never sees neither. The snapshot
// is let go with CaughtUp.
//
// # Parked streams
//
// A stream whose sink is Detachable is parked once it has caught up: it leaves its call and has neither a goroutine of
// ours nor a buffer until something wakes it. Then one of the few writers (writers.go) sends what waits, one frame at a
// time and without waiting. What may take its time, because the connection is full, there is something to read from elsewhere or the
// stream ends,
// gets a goroutine of the stream's own, which parks it again (resume). Other sinks keep their call's goroutine.
//
// # Who owns what
//
// At any time at most one goroutine is a stream's writer: that of the call, one of the writers, or the stream's own. It
// owns the frame, the sink, and which tracks exist; it is handed on under Stream.mu, which is why a parked stream is
// never waited for. Stream.mu guards the queue, the fields of tracks, the snapshots, and the pending user events; publishers hold it for
// a few instructions and never wait for the writer. Order of locks: Manager.mu, then Stream.mu; arrivals.mu alone; hub topic, then
// Stream.mu; Stream.mu, then writers.mu. Devices.Seen is called under Manager.mu too. The writer calls the hub only without Stream.mu.
package stream
