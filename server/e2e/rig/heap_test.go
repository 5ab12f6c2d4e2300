package rig

import (
	"bytes"
	"runtime"
	"runtime/pprof"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var held [][]byte

// What a profile of this very process says is what is held: an object larger than the rate is always a sample.
func TestHeapTellsWhatIsHeldAndWhere(t *testing.T) {
	profile := func() Heap {
		runtime.GC()
		var b bytes.Buffer
		require.NoError(t, pprof.Lookup("heap").WriteTo(&b, 1))
		h, err := parseHeap(b.String())
		require.NoError(t, err)
		return h
	}
	before := profile()
	const size = 16 << 20
	held = append(held, make([]byte, size))
	after := profile()
	require.InDelta(t, size, after.Live-before.Live, 1<<20)
	grown := Grown(before.Sites, after.Sites, 1)
	require.Len(t, grown, 1)
	require.Contains(t, grown[0], "+16.00 MiB (16.00) server/e2e/rig.TestHeapTellsWhatIsHeldAndWhere:")
	held = nil
	require.InDelta(t, 0, profile().Live-before.Live, 1<<20)
}

func TestHeapSamplesStandForWhatTheyAreSamplesOf(t *testing.T) {
	text := strings.Join([]string{
		"heap profile: 2: 131072 [9: 9] @ heap/131072",
		"1: 65536 [2: 131072] @ 0x1 0x2",
		"#\t0x1\tgithub.com/jackc/pgx/v5.(*Conn).Prepare+0x1f\t\t\t/m/pgx/conn.go:10",
		"#\t0x2\tgithub.com/parley-im/parley/server/storage.(*Log).Append+0x2\t/m/append.go:20",
		"#\t0x3\tgithub.com/parley-im/parley/server/committer.(*Committer).run+0x2\t/m/worker.go:30",
		"",
		"1: 65536 [1: 65536] @ 0x4",
		"#\t0x4\tnet/http.(*conn).serve+0x1f\t/m/server.go:10",
		"",
		"0: 0 [1: 65536] @ 0x5",
		"#\t0x5\tgone+0x1f\t/m/gone.go:10",
		"",
		"",
		"# runtime.MemStats",
		"# Alloc = 7",
		"# HeapAlloc = 4096",
		"",
	}, "\n")
	h, err := parseHeap(text)
	require.NoError(t, err)
	require.InDelta(t, 4096, h.Live, 0)
	require.Len(t, h.Sites, 2)
	const times = 1.58197670687 // 1 / (1 - 1/e): the objects are as large as the rate
	require.InDelta(t, 65536*times, h.Sites["github.com/jackc/pgx/v5.(*Conn).Prepare < server/storage.(*Log).Append:20"], 1)
	require.InDelta(t, 65536*times, h.Sites["net/http.(*conn).serve"], 1)
	for _, bad := range []string{"", "heap profile: 1: 1 [1: 1] @ heap/131072\n", "404 page not found"} {
		_, err := parseHeap(bad)
		require.Error(t, err, bad)
	}
}
