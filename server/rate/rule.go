package rate

import "log/slog"

// Rule is one of the things whose rate is bounded.
type Rule uint8

// The rules. Their order is that of docs/limits.md.
const (
	CallsIP         Rule = iota // HTTP requests of an address, before anything else is looked at
	CallsDevice                 // calls of a device, streams among them
	MessagesUser                // messages of a user, over all devices
	MessagesSession             // messages into a session, of all members
	GroupsUser                  // groups that a user makes

	ruleCount
)

// Rules are all rules.
func Rules() []Rule { return []Rule{CallsIP, CallsDevice, MessagesUser, MessagesSession, GroupsUser} }

// Limits are the limits by rule.
type Limits [ruleCount]Limit

// Defaults are wide: they stop programs that run wild and leave abuse by people, which every app sees differently, to its
// settings.
func Defaults() (l Limits) {
	for r, text := range map[Rule]string{CallsIP: "5000/s:50000", CallsDevice: "2000/s:20000", MessagesUser: "5000/s:50000",
		MessagesSession: "10000/s:100000", GroupsUser: "10000/h"} {
		_ = l[r].Set(text) // a test looks at each
	}
	return l
}

var described = [ruleCount]struct{ name, what, refusal string }{
	CallsIP:         {"calls-ip", "HTTP requests of an IP address (IPv6: its /64)", "There are too many requests from this address; repeat later."},
	CallsDevice:     {"calls-device", "calls of a device", "This device makes too many calls; repeat later."},
	MessagesUser:    {"messages-user", "messages of a user", "This user sends too many messages; repeat later."},
	MessagesSession: {"messages-session", "messages into a session", "Too many messages are sent to this session; repeat later."},
	GroupsUser:      {"groups-user", "groups that a user makes", "This user makes too many groups; repeat later."},
}

// String is the rule's name: its flag is --rate-NAME, and refusals carry it as metadata "limit".
func (r Rule) String() string { return described[r].name }

// What says in words what is counted.
func (r Rule) What() string { return described[r].what }

// LogValue implements slog.LogValuer.
func (l Limits) LogValue() slog.Value {
	attrs := make([]slog.Attr, 0, len(l))
	for r := range l {
		attrs = append(attrs, slog.String(described[r].name, l[r].String()))
	}
	return slog.GroupValue(attrs...)
}
