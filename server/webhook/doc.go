// Package webhook tells the app's own backend what happens: log entries, changes of relations, messages for users without
// a live device; and asks it about messages before they are sent.
//
// From commit to delivery. Nothing is done while a message is sent. A reader, one of all nodes at a time, turns what has
// committed since its last position into deliveries, by the same snapshot difference as package feed; the position is
// stored in the transaction that stores the deliveries and the jobs for them, so that a crash loses and doubles nothing. A
// delivery names a log entry and holds no body: it is rendered when it is sent, so a body that was recalled is nowhere here.
//
// Order. Deliveries of one webhook about one session (or about one user's relations) are a lane. A job of the queue drains a
// lane, one delivery after the other: the next waits until the one before was taken or, after the whole Schedule, given up.
// There is at most one job per lane. A job ends only under a lock that keeps the reader from adding to the lane, after it
// has looked once more; so no delivery is left without a job.
//
// At least once. A receiver may have taken what the sender does not know of, so it is sent again, under the same id.
//
// Moderation. Asked before the committer, outside any transaction, with a bound on time and concurrency. No answer means
// what the webhook's owner decided for that case. A breaker spares senders the wait for a receiver that keeps failing.
//
// Bounds. MaxWebhooks; per webhook and node MaxInFlight requests; a backlog of Config.Backlog deliveries, past which the
// webhook is disabled and says so; a log of Config.LogTTL. Goroutines: Runner.Run, and those of the job queue.
package webhook
