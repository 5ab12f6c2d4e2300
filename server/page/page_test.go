package page_test

import (
	"encoding/base64"
	"math"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/parley-im/parley/server/page"
	"github.com/parley-im/parley/server/refusal"
)

func requireInvalid(t require.TestingT, err error) {
	require.ErrorIs(t, err, refusal.New(refusal.PageTokenInvalid, ""))
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		user := rapid.StringN(0, 64, 256).Filter(func(s string) bool { return !strings.ContainsRune(s, 0) }).Draw(t, "user")
		seq := rapid.Int64Min(0).Draw(t, "seq")
		id := uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
		listing := page.Offline.For(rapid.SliceOfN(rapid.String(), 0, 3).Draw(t, "scope")...)

		token := page.Encode(listing, user, seq, id)
		require.LessOrEqual(t, len(token), page.MaxBytes)
		var user2 string
		var seq2 int64
		var id2 uuid.UUID
		require.NoError(t, page.Decode(listing, token, &user2, &seq2, &id2))
		require.Equal(t, user, user2)
		require.Equal(t, seq, seq2)
		require.Equal(t, id, id2)
	})
}

func TestFirstPageLeavesThePosition(t *testing.T) {
	after := "start"
	require.NoError(t, page.Decode(page.Relations, "", &after))
	require.Equal(t, "start", after)
}

// A token of another rpc, of another question, or of another shape must not be misread.
func TestTokensBelongToTheirRequest(t *testing.T) {
	alices := page.Relations.For("alice", "1")
	token := page.Encode(alices, "bob")

	after := "untouched"
	for name, other := range map[string]page.Listing{
		"no scope":       page.Relations,
		"another filter": page.Relations.For("alice", "2"),
		"another user":   page.Relations.For("bob", "1"),
		"moved byte":     page.Relations.For("alice1", ""),
		"fewer parts":    page.Relations.For("alice1"),
		"another rpc":    page.Members.For("alice", "1"),
	} {
		t.Run(name, func(t *testing.T) {
			requireInvalid(t, page.Decode(other, token, &after))
		})
	}
	var seq int64
	var id uuid.UUID
	requireInvalid(t, page.Decode(alices, token))
	requireInvalid(t, page.Decode(alices, token, &after, &seq))
	requireInvalid(t, page.Decode(alices, token, &after, &id))
	require.Equal(t, "untouched", after)
	require.NoError(t, page.Decode(alices, token, &after))
	require.Equal(t, "bob", after)
}

func TestDecodeRefusesOtherSpellings(t *testing.T) {
	good := page.Encode(page.Members, "bob", int64(5))
	raw, err := base64.RawURLEncoding.DecodeString(good)
	require.NoError(t, err)
	var s string
	var n int64
	require.NoError(t, page.Decode(page.Members, good, &s, &n))

	spelt := func(change func(b []byte) []byte) string {
		return base64.RawURLEncoding.EncodeToString(change(append([]byte(nil), raw...)))
	}
	for name, token := range map[string]string{
		"not base64":       "!!!!",
		"line end":         good[:4] + "\n" + good[4:],
		"padding":          good + "=",
		"too long":         strings.Repeat("A", page.MaxBytes+1),
		"cut":              good[:len(good)-2],
		"only the version": "AQ",
		"version":          spelt(func(b []byte) []byte { b[0]++; return b }),
		"bytes after":      spelt(func(b []byte) []byte { return append(b, 0) }),
		"long number":      spelt(func(b []byte) []byte { return append(b[:len(b)-1], 0x85, 0x00) }),
		"string too long":  spelt(func(b []byte) []byte { b[9] = 200; return b }),
		"zero byte":        page.Encode(page.Members, "b\x00b", int64(5)),
		"invalid UTF-8":    page.Encode(page.Members, "b\xffb", int64(5)),
		"negative":         page.Encode(page.Members, "bob", int64(-1)),
		"smallest":         page.Encode(page.Members, "bob", int64(math.MinInt64)),
	} {
		t.Run(name, func(t *testing.T) {
			requireInvalid(t, page.Decode(page.Members, token, &s, &n))
		})
	}
}

func TestTypesThatAreNotPositions(t *testing.T) {
	require.Panics(t, func() { page.Encode(page.Members, 5) })
	require.Panics(t, func() { _ = page.Decode(page.Members, page.Encode(page.Members, "x"), new(int)) })
}

// Whatever clients send is refused or is exactly what Encode makes of what was read.
func FuzzDecode(f *testing.F) {
	listing := page.Sessions.For("alice")
	for _, token := range []string{
		"", "AQ", "!", page.Encode(listing, "bob", int64(7), uuid.UUID{1}), page.Encode(page.Sessions, "bob", int64(7), uuid.UUID{}),
		page.Encode(listing, "", int64(math.MaxInt64), uuid.UUID{}),
	} {
		f.Add(token)
	}
	f.Fuzz(func(t *testing.T, token string) {
		var s string
		var n int64
		var id uuid.UUID
		if err := page.Decode(listing, token, &s, &n, &id); err != nil {
			requireInvalid(t, err)
			require.Empty(t, s)
			require.Zero(t, n)
			require.Zero(t, id)
			return
		}
		if token != "" {
			require.Equal(t, token, page.Encode(listing, s, n, id))
		}
	})
}
