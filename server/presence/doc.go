// Package presence knows who is online on which device. A device is online while it has a stream on some node, and for
// Grace afterwards, so that one that reconnects does not flicker.
//
// Truth. Each node knows the streams that it has. It tells the others by a Board (Redis): per user the devices and the
// node of each. An entry counts only while its node is alive, by what is heard of it: so nothing has to be refreshed per
// device, and all devices of a node that died go offline at once. A node writes the board when a stream comes or goes, and
// all of its entries anew every RefreshEvery, for a board that was flushed. Without a board a node tells what it knows
// itself; a node that hears no other needs none, and writes all of its entries once it hears one.
//
// Watching. A device watches users on the node of its stream. Changes come by a hint on the user's channel, to which
// nodes subscribe while somebody there watches the user; a lost hint is made up for within RefreshEvery. Whether a watcher
// may still see a user is asked again whenever a relation of either changes.
//
// One goroutine (Run) reads the board, writes it, and tells watchers; everything else only notes what is to be done,
// under Tracker.mu, which is taken below the hub's locks. Under it only Nodes.WantPresence is called.
package presence
