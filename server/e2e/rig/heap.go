package rig

import (
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strings"

	"github.com/stretchr/testify/require"
)

// ownCode is with what the names of the functions begin that tell a site of allocations from others.
const ownCode = "github.com/parley-im/parley/"

// Heap is what a node's heap holds at rest.
type Heap struct {
	// Live is the bytes that a garbage collection leaves.
	Live float64
	// Sites is the same by where it was allocated, as far as the samples tell, one for each 512 KiB: the allocating function, and
	// the first of Parley's own that led there, with its line.
	Sites map[string]float64
}

// Heap collects the server's garbage and returns what is left. It does so twice, since what is in a sync.Pool outlives one
// collection. What the question itself allocates is not in it, other than in go_memstats_heap_alloc_bytes: writing a profile
// takes memory by the number of sites that were ever seen, which grows for long.
func (s *Server) Heap() Heap {
	s.t.Helper()
	var text []byte
	for range 2 {
		res, err := http.Get(s.OpsURL + "/debug/pprof/heap?gc=1&debug=1") //nolint:noctx // local
		require.NoError(s.t, err)
		text, err = io.ReadAll(res.Body)
		require.NoError(s.t, err)
		require.NoError(s.t, res.Body.Close())
	}
	h, err := parseHeap(string(text))
	require.NoError(s.t, err)
	return h
}

// parseHeap reads a heap profile in the text form (debug=1 of runtime/pprof): a head with twice the sampling rate, for each
// stack a line "objects: bytes [allocated: bytes] @ addresses" and its functions, and the runtime's own figures, which are read
// right after the collection. Figures of stacks are samples; what they stand for is computed as pprof does, by the chance
// 1 - exp(-size/rate) that an object of that size is one.
func parseHeap(text string) (Heap, error) {
	h := Heap{Sites: make(map[string]float64)}
	var total, rate float64
	if n, _ := fmt.Sscanf(text, "heap profile: %f: %f [%f: %f] @ heap/%f", &total, &total, &total, &total, &rate); n != 5 || rate < 2 {
		return h, fmt.Errorf("no heap profile: %.80q", text)
	}
	rate /= 2
	_, text, _ = strings.Cut(text, "\n")
	stacks, figures, _ := strings.Cut(text, "\n# runtime.MemStats\n")
	_, figures, _ = strings.Cut(figures, "\n# HeapAlloc = ")
	if n, _ := fmt.Sscanf(figures, "%f", &h.Live); n != 1 {
		return h, fmt.Errorf("a heap profile without HeapAlloc: %.80q", text)
	}
	for stack := range strings.SplitSeq(stacks, "\n\n") {
		var objects, bytes float64
		if n, _ := fmt.Sscanf(stack, "%f: %f", &objects, &bytes); n == 2 && objects > 0 {
			h.Sites[site(stack)] += bytes / (1 - math.Exp(-bytes/objects/rate))
		}
	}
	return h, nil
}

// site names the place of a stack.
func site(stack string) string {
	leaf := ""
	for line := range strings.Lines(stack) {
		part := strings.FieldsFunc(strings.TrimSpace(line), func(r rune) bool { return r == '\t' }) // #, address, function+offset, file:line
		if len(part) != 4 {
			continue
		}
		function, _, _ := strings.Cut(part[2], "+0x")
		if leaf == "" {
			leaf = function
		}
		if own, ok := strings.CutPrefix(function, ownCode); ok {
			own += part[3][strings.LastIndex(part[3], ":"):]
			if function == leaf {
				return own
			}
			return leaf + " < " + own
		}
	}
	return leaf
}

// Grown tells by how much each site holds more than before, the most first, at most n of them and none below 64 KiB.
func Grown(before, after map[string]float64, n int) (lines []string) {
	const least = 64 << 10
	var sites []string
	for s := range after {
		if after[s]-before[s] >= least {
			sites = append(sites, s)
		}
	}
	slices.SortFunc(sites, func(a, b string) int {
		return int(after[b] - before[b] - after[a] + before[a])
	})
	for _, s := range sites[:min(n, len(sites))] {
		lines = append(lines, fmt.Sprintf("%+6.2f MiB (%.2f) %s", (after[s]-before[s])/(1<<20), after[s]/(1<<20), s))
	}
	return lines
}
