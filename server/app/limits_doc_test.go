package app

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/parley-im/parley/server/auth"
	"github.com/parley-im/parley/server/committer"
	"github.com/parley-im/parley/server/cursor"
	"github.com/parley-im/parley/server/device"
	"github.com/parley-im/parley/server/presence"
	"github.com/parley-im/parley/server/rate"
	"github.com/parley-im/parley/server/relation"
	"github.com/parley-im/parley/server/rpc"
	"github.com/parley-im/parley/server/session"
	"github.com/parley-im/parley/server/stream"
	"github.com/parley-im/parley/server/webhook"
)

// TestLimitsAreDocumented holds docs/limits.md against the code: its tables are what this test makes of the code. With
// PARLEY_UPDATE=1 it writes them.
func TestLimitsAreDocumented(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "limits.md")
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	want := string(raw)
	for name, table := range map[string]string{"rates": ratesTable(), "bounds": boundsTable(), "fields": fieldsTable(t), "deadlines": deadlinesTable()} {
		begin, end := "<!-- "+name+" -->\n", "<!-- end of "+name+" -->"
		require.Equal(t, 1, strings.Count(want, begin), name)
		head, rest, _ := strings.Cut(want, begin)
		_, tail, found := strings.Cut(rest, end)
		require.True(t, found, name)
		want = head + begin + "\n" + table + "\n" + end + tail
	}
	if os.Getenv("PARLEY_UPDATE") != "" {
		require.NoError(t, os.WriteFile(path, []byte(want), 0o600))
	}
	if want != string(raw) {
		t.Error("docs/limits.md is not what the code says: run PARLEY_UPDATE=1 go test -run TestLimitsAreDocumented ./server/app")
	}
}

func ratesTable() string {
	var b strings.Builder
	b.WriteString("| what | setting | default | metadata `limit` |\n|---|---|---|---|\n")
	defaults := rate.Defaults()
	for _, r := range rate.Rules() {
		setting := "PARLEY_RATE_" + strings.ToUpper(strings.ReplaceAll(r.String(), "-", "_"))
		fmt.Fprintf(&b, "| %s | `%s` | `%s` | `%s` |\n", r.What(), setting, defaults[r].String(), r)
	}
	return b.String()
}

func boundsTable() string {
	kib := func(n int) string { return strconv.Itoa(n>>10) + " KiB" }
	var b strings.Builder
	b.WriteString("| what | bound | past it |\n|---|---|---|\n")
	for _, row := range [][3]string{
		{"a request, as it comes and unpacked, all items of SendMessages together", kib(rpc.MaxRequestBytes), "RESOURCE_EXHAUSTED `REQUEST_TOO_LARGE`"},
		{"headers of a request: names and values, and 32 bytes for each; without host and path", kib(rpc.MaxHeaderBytes), "HTTP 431"},
		{"a token", kib(auth.MaxTokenBytes), "UNAUTHENTICATED `TOKEN_INVALID`"},
		{"lifetime of a token", strconv.Itoa(int(auth.DefaultMaxLifetime.Hours()/24)) + " days", "UNAUTHENTICATED `TOKEN_INVALID`"},
		{"members of a group", strconv.Itoa(session.MaxMembers), "RESOURCE_EXHAUSTED `GROUP_FULL`"},
		{"parts of a group's log that a user sees, by leaving and being added again", strconv.Itoa(session.MaxParts), "NOT_FOUND `USER_UNAVAILABLE`, unless the group shows its past to new members"},
		{"sessions of a user, groups and direct ones", strconv.Itoa(session.MaxSessions) + " (`PARLEY_MAX_SESSIONS`)", "RESOURCE_EXHAUSTED `TOO_MANY_SESSIONS`; to others who write first, RECIPIENT_UNAVAILABLE"},
		{"devices of a user that are not revoked", strconv.Itoa(device.MaxDevices), "RESOURCE_EXHAUSTED `TOO_MANY_DEVICES`"},
		{"streams of a device", "1", "the older one ends: FAILED_PRECONDITION `STREAM_DISPLACED`"},
		{"streams of a user", strconv.Itoa(device.MaxDevices), "as devices"},
		{"friends and requests of a user", strconv.Itoa(relation.MaxTies), "RESOURCE_EXHAUSTED `TOO_MANY_RELATIONS`"},
		{"blocks of a user", strconv.Itoa(relation.MaxBlocks), "RESOURCE_EXHAUSTED `TOO_MANY_RELATIONS`"},
		{"presences that a stream watches", strconv.Itoa(presence.MaxWatched), "INVALID_ARGUMENT `INVALID_FIELD`"},
		{"connections of an address", strconv.Itoa(rpc.DefaultMaxConnsIP) + " (`PARLEY_MAX_CONNS_IP`)", "closed as they come"},
		{"connections of a node", strconv.Itoa(rpc.DefaultMaxConns) + " (`PARLEY_MAX_CONNS`)", "closed as they come"},
		{"calls at once on an HTTP/2 connection", strconv.Itoa(rpc.MaxConcurrentStreams), "the stream is reset"},
		{"what waits for a stream that is not read", kib(stream.MaxQueueBytes) + ", " + strconv.Itoa(stream.MaxQueueItems) + " entries", "the queue is dropped, the stream goes on by pulling; nothing is lost"},
		{"webhooks", strconv.Itoa(webhook.MaxWebhooks), "RESOURCE_EXHAUSTED `TOO_MANY_WEBHOOKS`"},
		{"deliveries of a webhook that wait", strconv.Itoa(Default().Webhook.Backlog) + " (`PARLEY_WEBHOOK_BACKLOG`)", "the webhook is disabled, and says why"},
		{"requests at once of a node to a webhook, and to moderation", strconv.Itoa(webhook.MaxInFlight) + ", " + strconv.Itoa(webhook.MaxModerating), "they wait; moderation within its timeout, then `MODERATION_UNAVAILABLE` or sent, as chosen"},
		{"messages that wait for their commit on a node", strconv.Itoa(committer.MaxWaiting), "RESOURCE_EXHAUSTED `OVERLOADED`, 500 ms"},
		{"positions that wait to be written on a node", strconv.Itoa(cursor.MaxWaiting), "RESOURCE_EXHAUSTED `OVERLOADED`, 1 s"},
	} {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", row[0], row[1], row[2])
	}
	return b.String()
}

func deadlinesTable() string {
	by := make(map[time.Duration][]string)
	for procedure, d := range rpc.Deadlines(rpc.DefaultUnaryTimeout) {
		by[d] = append(by[d], "`"+procedure[strings.LastIndex(procedure, "/")+1:]+"`")
	}
	var b strings.Builder
	b.WriteString("| a call may take | rpcs |\n|---|---|\n")
	longest := slices.Max(slices.Collect(maps.Keys(by)))
	for _, d := range slices.Sorted(maps.Keys(by)) {
		names := "all others but streams"
		if d != longest {
			names = strings.Join(slices.Sorted(slices.Values(by[d])), ", ")
		}
		fmt.Fprintf(&b, "| %s | %s |\n", d, names)
	}
	return b.String()
}

// fieldsTable lists the bounds that the protos state, of requests and of what is in them.
func fieldsTable(t *testing.T) string {
	var rows []string
	protoregistry.GlobalFiles.RangeFilesByPackage("parley.v1", func(f protoreflect.FileDescriptor) bool {
		for i := range f.Messages().Len() {
			m := f.Messages().Get(i)
			for j := range m.Fields().Len() {
				field := m.Fields().Get(j)
				rules, ok := proto.GetExtension(field.Options(), validate.E_Field).(*validate.FieldRules)
				require.True(t, ok)
				if bounds := boundsOf(rules); bounds != "" {
					rows = append(rows, fmt.Sprintf("| `%s.%s` | %s |", m.Name(), field.Name(), bounds))
				}
			}
		}
		return true
	})
	slices.Sort(rows)
	require.Greater(t, len(rows), 40)
	return "| field | bounds |\n|---|---|\n" + strings.Join(rows, "\n") + "\n"
}

func boundsOf(r *validate.FieldRules) string {
	var out []string
	add := func(has bool, format string, n any) {
		if has {
			out = append(out, fmt.Sprintf(format, n))
		}
	}
	if s := r.GetString(); s != nil {
		add(s.MinBytes != nil, "at least %d bytes", s.GetMinBytes())
		add(s.MaxBytes != nil, "at most %d bytes", s.GetMaxBytes())
		add(s.MinLen != nil, "at least %d characters", s.GetMinLen())
		add(s.MaxLen != nil, "at most %d characters", s.GetMaxLen())
	}
	if b := r.GetBytes(); b != nil {
		add(b.MinLen != nil, "at least %d bytes", b.GetMinLen())
		add(b.MaxLen != nil, "at most %d bytes", b.GetMaxLen())
	}
	if l := r.GetRepeated(); l != nil {
		add(l.MinItems != nil, "at least %d items", l.GetMinItems())
		add(l.MaxItems != nil, "at most %d items", l.GetMaxItems())
		if each := boundsOf(l.GetItems()); each != "" {
			out = append(out, "each "+each)
		}
	}
	if n := r.GetInt32(); n != nil {
		add(n.GetGte() != 0, "%d or more", n.GetGte())
		add(n.GetLte() != 0, "up to %d", n.GetLte())
	}
	return strings.Join(out, ", ")
}
