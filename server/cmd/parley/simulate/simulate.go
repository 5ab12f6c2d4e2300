// Package simulate does the sum of docs/scaling.md: what a number of devices asks of nodes, PostgreSQL and Redis, from
// costs that were measured one by one. It is arithmetic, not a load test: it says where the limits are to be looked for.
package simulate

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Use is how an app is used. The numbers are assumptions: put your own.
type Use struct {
	DevicesPerUser float64 // devices that a user has
	Online         float64 // share of the devices that have a stream, 0 to 1
	Memberships    float64 // sessions that a user is in
	Members        float64 // members of a session
	SentPerDay     float64 // messages that a user sends in a day
	Peak           float64 // how many times the day's average the busiest minutes have
}

// TypicalUse is what the table in docs/scaling.md assumes.
func TypicalUse() Use {
	return Use{DevicesPerUser: 2, Online: 0.2, Memberships: 20, Members: 5, SentPerDay: 20, Peak: 5}
}

// Costs of one of each, measured; docs/scaling.md says how.
const (
	StreamBytes     = 60_000 // memory of a node per idle stream over HTTP/1.1
	MembershipBytes = 33     // memory of a node per membership in the relation map
	RowBytes        = 468    // disk per message with a body of 200 bytes, indexes included
	WALBytes        = 1_132  // write-ahead log per such message
	CursorBytes     = 172    // disk per stored cursor, index included
	MemberRowBytes  = 317    // disk per membership, indexes included
	ChannelBytes    = 251    // memory of Redis per channel with one subscribed node
	SubscribedBytes = 160    // and per further node
	CachedBytes     = 457    // memory of Redis per cached entry of 200 bytes
	PresenceBytes   = 239    // memory of Redis per user who is online, on one device
	HintsPerSecond  = 350_000
	// CommitsPerSecond is what PostgreSQL takes in batches of 64 on two quiet cores.
	CommitsPerSecond = 36_900
	// DeliveriesPerSecond is what two cores write to HTTP/1.1 streams, joined and encoded once.
	DeliveriesPerSecond = 1_900_000
)

// Sizes that are chosen so that half of the machine is free.
const (
	streamsPerNode    = 50_000
	relationMapBytes  = 2 << 30 // PARLEY_ROSTER_MAX_MB
	connectionsOfNode = 32      // PARLEY_POSTGRES_MAX_CONNS
	nodeOwnBytes      = 64<<20 + 100<<20
	redisBytes        = 16 << 30
	// commandsPerMessage of Redis: the hint, and the script that appends to the cache.
	commandsPerMessage = 2
	// refreshCommands of Redis per device that is online, every refreshSeconds (presence.RefreshEvery): its entry on the board
	// and how long that lives, and the hint to those who watch its user.
	refreshCommands = 3
	refreshSeconds  = 30
	// pollStatements of PostgreSQL per node and second: the feed, BEGIN and COMMIT included.
	pollStatements = 5
	leastNodes     = 3
	half           = 0.5
)

// Sum is what a number of devices comes to. Rates are those of the peak, per second.
type Sum struct {
	Devices, Users, Streams, Memberships, Sessions float64

	Messages, Deliveries float64 // per second

	Nodes, NodeBytes       float64
	RelationMap            float64 // bytes on every node; 0: too big, PostgreSQL is asked
	Primaries, Connections float64
	Polls                  float64 // statements per second of all feeds; while Redis is down 20 times that
	WALPerSecond           float64
	CursorsPerSecond       float64 // rows written behind
	DiskPerYear            float64 // messages
	DiskOfRelations        float64 // memberships and cursors
	Channels, ChannelBytes float64
	CachedBytes            float64
	PresenceBytes          float64
	PresenceCommands       float64 // per second
	RedisCommands          float64 // per second, with those of presence
	RedisServers           float64
}

// Of does the sum.
func Of(devices float64, u Use) Sum {
	s := Sum{Devices: devices, Users: devices / u.DevicesPerUser, Streams: devices * u.Online}
	s.Memberships = s.Users * u.Memberships
	s.Sessions = s.Memberships / u.Members
	perDay := s.Users * u.SentPerDay
	s.Messages = perDay / 86_400 * u.Peak
	receivers := (u.Members*u.DevicesPerUser - 1) * u.Online
	s.Deliveries = s.Messages * receivers

	s.Nodes = max(leastNodes, math.Ceil(s.Streams/streamsPerNode), math.Ceil(s.Deliveries/(DeliveriesPerSecond*half)))
	if bytes := s.Memberships * MembershipBytes; bytes <= relationMapBytes {
		s.RelationMap = bytes
	}
	s.NodeBytes = s.Streams/s.Nodes*StreamBytes + s.RelationMap + nodeOwnBytes

	s.Primaries = math.Ceil(s.Messages / (CommitsPerSecond * half))
	s.Connections = s.Nodes * connectionsOfNode
	s.Polls = s.Nodes * pollStatements
	s.WALPerSecond = s.Messages * WALBytes
	s.CursorsPerSecond = s.Deliveries // at most: acks of one device and session within a second are one row
	s.DiskPerYear = perDay * 365 * RowBytes
	s.DiskOfRelations = s.Memberships * (MemberRowBytes + u.DevicesPerUser*CursorBytes)

	// At most: members of one session on one node share its channel.
	subscribed := s.Streams * (u.Memberships + 1)
	s.Channels = min(subscribed, s.Sessions+s.Streams)
	s.ChannelBytes = s.Channels*ChannelBytes + (subscribed-s.Channels)*SubscribedBytes
	s.CachedBytes = perDay * CachedBytes        // kept for 24 hours
	s.PresenceBytes = s.Streams * PresenceBytes // at most: devices of one user share a key
	s.PresenceCommands = s.Streams * refreshCommands / refreshSeconds
	s.RedisCommands = s.Messages*commandsPerMessage + s.PresenceCommands
	s.RedisServers = max(1, math.Ceil((s.ChannelBytes+s.CachedBytes+s.PresenceBytes)/(redisBytes*half)), math.Ceil(s.RedisCommands/(HintsPerSecond*half)))
	return s
}

// Table renders sums beside each other, as Markdown.
func Table(sums ...Sum) string {
	var b strings.Builder
	row := func(name string, value func(Sum) string) {
		b.WriteString("| " + name + " |")
		for _, s := range sums {
			b.WriteString(" " + value(s) + " |")
		}
		b.WriteString("\n")
	}
	row("devices", func(s Sum) string { return count(s.Devices) })
	b.WriteString("|---|" + strings.Repeat("---:|", len(sums)) + "\n")
	row("users", func(s Sum) string { return count(s.Users) })
	row("streams", func(s Sum) string { return count(s.Streams) })
	row("sessions; memberships", func(s Sum) string { return count(s.Sessions) + "; " + count(s.Memberships) })
	row("messages/s at the peak", func(s Sum) string { return count(s.Messages) })
	row("deliveries/s", func(s Sum) string { return count(s.Deliveries) })
	row("**nodes** (two cores each)", func(s Sum) string { return count(s.Nodes) })
	row("memory per node", func(s Sum) string { return bytes(s.NodeBytes) })
	row("of it the relation map", func(s Sum) string {
		if s.RelationMap == 0 {
			return "too big: off"
		}
		return bytes(s.RelationMap)
	})
	row("**PostgreSQL** primaries (two cores each)", func(s Sum) string { return count(s.Primaries) })
	row("connections", func(s Sum) string { return count(s.Connections) })
	row("statements/s of all feeds; without Redis", func(s Sum) string { return count(s.Polls) + "; " + count(s.Polls*20) })
	row("write-ahead log/s for messages", func(s Sum) string { return bytes(s.WALPerSecond) })
	row("cursor rows/s, at most", func(s Sum) string { return count(s.CursorsPerSecond) })
	row("disk for a year of messages", func(s Sum) string { return bytes(s.DiskPerYear) })
	row("disk for memberships and cursors", func(s Sum) string { return bytes(s.DiskOfRelations) })
	row("**Redis** servers of 16 GiB", func(s Sum) string { return count(s.RedisServers) })
	row("channels, at most; their memory", func(s Sum) string { return count(s.Channels) + "; " + bytes(s.ChannelBytes) })
	row("memory for a day of cached entries", func(s Sum) string { return bytes(s.CachedBytes) })
	row("memory for who is online", func(s Sum) string { return bytes(s.PresenceBytes) })
	row("commands/s; of them for presence", func(s Sum) string { return count(s.RedisCommands) + "; " + count(s.PresenceCommands) })
	return b.String()
}

// count renders a number with three digits that count.
func count(n float64) string {
	switch {
	case n >= 1e9:
		return digits(n/1e9) + " G"
	case n >= 1e6:
		return digits(n/1e6) + " M"
	case n >= 1e4:
		return digits(n/1e3) + " k"
	default:
		return strconv.FormatFloat(math.Ceil(n), 'f', 0, 64)
	}
}

func bytes(n float64) string {
	for _, unit := range []string{"B", "kB", "MB", "GB", "TB"} {
		if n < 1000 {
			return digits(n) + " " + unit
		}
		n /= 1000
	}
	return digits(n) + " PB"
}

func digits(n float64) string {
	out, err := strconv.ParseFloat(fmt.Sprintf("%.3g", n), 64)
	if err != nil {
		return "?"
	}
	return strconv.FormatFloat(out, 'f', -1, 64)
}
