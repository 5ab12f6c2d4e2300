package anycall

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

// table is what docs/errors.md says.
type table struct {
	always map[string]bool
	of     map[string]map[string]bool // by rpc as Service.Method
	codes  map[string]map[connect.Code]bool
}

var (
	row  = regexp.MustCompile("(?m)^\\| `(\\w+Service\\.\\w+|every call)` \\|([^|]*)\\|")
	name = regexp.MustCompile("`([A-Z_]+)`")
	// coded is how error_reason.proto gives the code of a reason: in front of its comment.
	coded = regexp.MustCompile(`(?m)// ([A-Z_]+)(?: or ([A-Z_]+))?: .*\n\s+ERROR_REASON_(\w+) =`)
)

// readTable reads docs/errors.md, and the codes from the comments of error_reason.proto.
func readTable(t testing.TB) table {
	t.Helper()
	raw, err := os.ReadFile("../../../docs/errors.md")
	require.NoError(t, err)
	out := table{of: map[string]map[string]bool{}, codes: map[string]map[connect.Code]bool{}}
	for _, r := range row.FindAllStringSubmatch(string(raw), -1) {
		reasons := map[string]bool{}
		for _, n := range name.FindAllStringSubmatch(r[2], -1) {
			require.Contains(t, parleyv1.ErrorReason_value, "ERROR_REASON_"+n[1], "docs/errors.md, %s", r[1])
			reasons[n[1]] = true
		}
		if r[1] == "every call" {
			out.always = reasons
		} else {
			out.of[r[1]] = reasons
		}
	}
	require.NotEmpty(t, out.always)
	raw, err = os.ReadFile("../../../proto/parley/v1/error_reason.proto")
	require.NoError(t, err)
	for _, m := range coded.FindAllStringSubmatch(string(raw), -1) {
		out.codes[m[3]] = map[connect.Code]bool{}
		for _, code := range m[1:3] {
			var c connect.Code
			if code != "" {
				require.NoError(t, c.UnmarshalText([]byte(strings.ToLower(code))), code)
				out.codes[m[3]][c] = true
			}
		}
	}
	return out
}

// Each rpc has a row, and each row an rpc.
func TestErrorsAreDocumented(t *testing.T) {
	table := readTable(t)
	known := map[string]bool{}
	for _, m := range rpcs() {
		name := rpcName(m)
		known[name] = true
		require.Contains(t, table.of, name, "docs/errors.md has no row for it")
	}
	for name := range table.of {
		require.True(t, known[name], "docs/errors.md has a row for %s, which is no rpc", name)
	}
	for name, n := range parleyv1.ErrorReason_value {
		if n != 0 {
			require.Contains(t, table.codes, strings.TrimPrefix(name, "ERROR_REASON_"), "its comment names no code")
		}
	}
}
