package app

import "github.com/parley-im/parley/server/storage"

// newLife forgets all that this node knows of the log's former life, and makes every stream start afresh. It is called
// while the connection that told of the new life waits, so nothing is committed in the new life by a node that still
// believes in the old one.
func (a *App) newLife(sink *feedSink, logs *storage.Messages) {
	if a.roster != nil { // first: the streams ask it
		a.roster.Lost()
	}
	sink.gate.ForgetAll()
	logs.Forget()
	a.acks.ForgetAll()
	sink.underway.forget()
	sink.ring.Clear()
	a.streams.Resync()
	a.pool.Reset() // a connection to the former primary, should it still live, is of no more use
	a.feed.Wake()
}
