package auth_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/auth"
	"github.com/parley-im/parley/server/refusal"
)

// unmarked is the caller without the mark of the key, which is a digest and must be there.
func unmarked(tb testing.TB, p auth.Principal) auth.Principal {
	tb.Helper()
	require.NotZero(tb, p.Key)
	p.Key = auth.KeyMark{}
	return p
}

// A key counts for as long as its own issuer's set has it: under its id, with its algorithm and its bytes.
func TestAcceptedKeys(t *testing.T) {
	b := newBench(t)
	check := func(p auth.Principal) refusal.Reason {
		reason, _ := refusal.Of(b.verifier.AcceptedKeys().Check(p.Key))
		return reason
	}
	ed, ec := accepts(t, b.verifier, b.ed.token(t, b.oneClaims)), accepts(t, b.verifier, b.ec.token(t, b.oneClaims))
	other := accepts(t, b.verifier, b.other.token(t, goodClaims(issuerTwo)))
	for _, p := range []auth.Principal{ed, ec, other} {
		require.Empty(t, check(p))
	}
	require.Equal(t, refusal.TokenInvalid, check(auth.Principal{}), "the zero mark is no key's")

	b.one.set = keySet(t, b.ec)
	require.Equal(t, refusal.TokenInvalid, check(ed), "withdrawn")
	require.Empty(t, check(ec))

	b.one.set = keySet(t, b.ec, newEd25519(t, "ed-1"))
	require.Equal(t, refusal.TokenInvalid, check(ed), "another key under the same id")

	b.two.set = keySet(t, b.other, b.ed)
	require.Equal(t, refusal.TokenInvalid, check(ed), "the same key, of another issuer")

	b.one.set = keySet(t, b.ed)
	require.Empty(t, check(ed), "back again")
	require.Equal(t, refusal.TokenInvalid, check(ec))

	b.one.set = nil
	require.Equal(t, refusal.Unavailable, check(ed), "nobody knows")
	require.Empty(t, check(other))
}
