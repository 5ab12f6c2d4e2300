package auth_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/auth"
	"github.com/parley-im/parley/server/refusal"
)

func TestAPIKeyCheck(t *testing.T) {
	current, next := strings.Repeat("k", 32), strings.Repeat("n", 512)
	keys, err := auth.NewAPIKey(current, next)
	require.NoError(t, err)
	require.NoError(t, keys.Check(current))
	require.NoError(t, keys.Check(next))
	for _, presented := range []string{
		"", " ", current[:31], current + "k", current + " ", " " + current, strings.ToUpper(current), next + "n",
		current + next, current[:31] + "j", strings.Repeat("k", 1<<20),
	} {
		err := keys.Check(presented)
		reason, ok := refusal.Of(err)
		require.True(t, ok)
		require.Equal(t, refusal.APIKeyInvalid, reason)
	}
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		require.NotContains(t, fmt.Sprintf(format, keys), current)
	}
}

func TestAPIKeyRotation(t *testing.T) {
	before, after := strings.Repeat("a", 40), strings.Repeat("b", 40)
	keys, err := auth.NewAPIKey(after)
	require.NoError(t, err)
	require.NoError(t, keys.Check(after))
	require.Error(t, keys.Check(before))

	keys, err = auth.NewAPIKey(after, after) // A rotation's end may leave the same key in both places.
	require.NoError(t, err)
	require.NoError(t, keys.Check(after))
}

func TestNewAPIKeyRefuses(t *testing.T) {
	good := strings.Repeat("k", 32)
	for name, keys := range map[string][]string{
		"none": {}, "three": {good, good, good}, "empty": {""}, "31 bytes": {good[:31]}, "513 bytes": {strings.Repeat("k", 513)},
		"second short": {good, "short"}, "line end": {good + "\n"}, "space inside": {good + " " + good}, "tab": {"\t" + good},
		"not ASCII": {strings.Repeat("é", 32)}, "NUL": {good + "\x00"}, "DEL": {good + "\x7f"},
	} {
		t.Run(name, func(t *testing.T) {
			made, err := auth.NewAPIKey(keys...)
			require.Error(t, err)
			require.Nil(t, made)
			require.NotContains(t, err.Error(), "kkkk")
		})
	}
}

func TestBearer(t *testing.T) {
	for header, want := range map[string]string{
		"": "", "Bearer": "", "Bearer ": "", "Bearer abc": "abc", "bearer abc": "abc", "BEARER abc": "abc", "Bearer   abc": "abc",
		"Bearer abc ": "abc ", "Bearer a b": "a b", "Basic abc": "", "Bearerabc": "", "abc": "", " Bearer abc": "", "Bearer\tabc": "",
		"Bearer, abc": "",
	} {
		require.Equal(t, want, auth.Bearer(header), "%q", header)
	}
}

func TestValidID(t *testing.T) {
	for id, want := range map[string]bool{
		"a": true, " ": true, "é/😀": true, "user@example.com": true, strings.Repeat("x", 64): true, "\u2028": true, "\ufffd": true,
		"": false, strings.Repeat("x", 65): false, "a\tb": false, "\x00": false, "\x7f": false, "\u009f": false, "\xff": false,
		"a\xc3": false,
	} {
		require.Equal(t, want, auth.ValidID(id), "%q", id)
	}
}
