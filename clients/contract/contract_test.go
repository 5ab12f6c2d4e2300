package contract

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/dev/testenv"
	"github.com/parley-im/parley/server/e2e/rig"
)

func TestMain(m *testing.M) {
	testenv.AtEnd(rig.RemoveBinary)
	testenv.Main(m)
}

// languages, in the order in which the table below counts them.
var languages = []string{"go", "typescript", "kotlin"}

// table says which language each of up to three devices has in each of six plays: the six orders of three languages, so
// that every two devices meet in every pair of different languages, each way round. Whichever device is in
// Kotlin speaks Connect in one play and gRPC in another (overGRPC).
func table() [][3]int {
	return [][3]int{{0, 1, 2}, {0, 2, 1}, {1, 2, 0}, {1, 0, 2}, {2, 0, 1}, {2, 1, 0}}
}

// TestContract plays each scenario with devices of all three languages against one server.
func TestContract(t *testing.T) {
	runners := start(t)
	scenarios := load(t)
	require.GreaterOrEqual(t, len(scenarios), 12)
	server := rig.Start(t, "PARLEY_HEARTBEAT=500ms")
	t.Run("together", func(t *testing.T) {
		for _, s := range scenarios {
			if !s.Alone {
				t.Run(s.file, func(t *testing.T) {
					t.Parallel()
					for n, row := range table() {
						if !playOnce(t, server, s, runners, row, n) {
							return // the others would tell the same
						}
					}
				})
			}
		}
	})
	// What ends the server is played one after the other, each device once in each language.
	for _, s := range scenarios {
		if s.Alone {
			t.Run(s.file, func(t *testing.T) {
				for i := range 3 {
					playOnce(t, server, s, runners, [3]int{i, (i + 1) % 3, (i + 2) % 3}, i)
				}
			})
		}
	}
}

// overGRPC reports whether Kotlin's devices speak gRPC in the nth play of a scenario.
func overGRPC(n int) bool { return n%2 == 1 }

func playOnce(t *testing.T, server *rig.Server, s scenario, runners []runner, row [3]int, n int) bool {
	of := map[string]runner{}
	var names []string
	for i, d := range slices.Sorted(maps.Keys(s.Devices)) {
		of[d] = runners[row[i]%len(runners)]
		names = append(names, d+"="+nameOf(of[d]))
	}
	return t.Run(strings.Join(names, ","), func(t *testing.T) {
		p := play{t: t, server: server, s: s, runners: of, grpc: overGRPC(n)}
		p.run()
	})
}

// start starts the runners of all languages. scripts/test-contract builds them and says where they are.
func start(t *testing.T) []runner {
	ts, kotlin := os.Getenv("PARLEY_CONTRACT_TYPESCRIPT"), os.Getenv("PARLEY_CONTRACT_KOTLIN")
	if ts == "" || kotlin == "" {
		t.Skip("scripts/test-contract runs this, with the runners of the other languages")
	}
	only := os.Getenv("PARLEY_CONTRACT_ONLY") // one language alone, while working on it
	stores := t.TempDir()
	makers := map[string]func() runner{
		"go":         func() runner { return newGophers() },
		"typescript": func() runner { return startProcess(t, "node", ts) },
		"kotlin": func() runner {
			path, err := os.ReadFile(filepath.Join(kotlin, "class-path"))
			require.NoError(t, err)
			classes := strings.Join([]string{filepath.Join(kotlin, "classes"), filepath.Join(kotlin, "test-classes"), string(path)}, string(os.PathListSeparator))
			return startProcess(t, "java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", classes, "im.parley.contract.RunnerKt", stores)
		},
	}
	var out []runner
	for _, l := range languages {
		if only == "" || only == l {
			out = append(out, named{makers[l](), l})
		}
	}
	require.NotEmpty(t, out, "PARLEY_CONTRACT_ONLY is none of %v", languages)
	return out
}

// named is a runner that knows its language.
type named struct {
	runner
	language string
}

func nameOf(r runner) string {
	if n, ok := r.(named); ok {
		return n.language
	}
	return fmt.Sprintf("%T", r)
}

func TestTableMeetsEveryPairOfLanguages(t *testing.T) {
	t.Parallel()
	for a := range 3 {
		protocols := map[bool]bool{}
		for n, row := range table() {
			if languages[row[a]] == "kotlin" {
				protocols[overGRPC(n)] = true
			}
		}
		require.Len(t, protocols, 2, "device %d in Kotlin", a)
		for b := range a {
			pairs := map[[2]int]bool{}
			for _, row := range table() {
				require.NotEqual(t, row[a], row[b])
				pairs[[2]int{row[a], row[b]}] = true
			}
			require.Len(t, pairs, 6, "devices %d and %d", a, b)
		}
	}
}
