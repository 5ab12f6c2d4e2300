package relation

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/parley-im/parley/server/refusal"
)

// The seven pairs that can be.
var (
	nothing       = Pair{}
	asked         = Pair{Own: MarkRequested}
	wasAsked      = Pair{Other: MarkRequested}
	friends       = Pair{Own: MarkFriend, Other: MarkFriend}
	blocking      = Pair{Own: MarkBlocked}
	blocked       = Pair{Other: MarkBlocked}
	blockedMutual = Pair{Own: MarkBlocked, Other: MarkBlocked}
)

func TestKinds(t *testing.T) {
	for pair, want := range map[Pair]Kind{
		nothing: None, asked: Requested, wasAsked: RequestReceived, friends: Friend, blocking: Blocked, blocked: None,
		blockedMutual: Blocked,
	} {
		require.Equal(t, want, pair.Kind(), "%v", pair)
		require.Equal(t, pair, pair.Flip().Flip())
	}
}

// What every rule makes of every pair, with a known and active peer.
func TestRules(t *testing.T) {
	type want struct {
		pair Pair
		err  error
	}
	becomes := func(p Pair) want { return want{pair: p} }
	refused := func(err error) want { return want{err: err} }
	for name, c := range map[string]struct {
		rule rule
		want map[Pair]want
	}{
		"request": {request, map[Pair]want{
			nothing: becomes(asked), asked: becomes(asked), wasAsked: becomes(friends), friends: becomes(friends),
			blocking: refused(errBlockedByMe), blocked: refused(errRecipient), blockedMutual: refused(errBlockedByMe),
		}},
		"accept": {accept, map[Pair]want{
			nothing: refused(errNoRequest), asked: refused(errNoRequest), wasAsked: becomes(friends), friends: becomes(friends),
			blocking: refused(errNoRequest), blocked: refused(errNoRequest), blockedMutual: refused(errNoRequest),
		}},
		"decline": {decline, map[Pair]want{
			nothing: refused(errNoRequest), asked: refused(errNoRequest), wasAsked: becomes(nothing), friends: refused(errNoRequest),
			blocking: refused(errNoRequest), blocked: refused(errNoRequest), blockedMutual: refused(errNoRequest),
		}},
		"remove": {remove, map[Pair]want{
			nothing: becomes(nothing), asked: becomes(nothing), wasAsked: becomes(wasAsked), friends: becomes(nothing),
			blocking: becomes(blocking), blocked: becomes(blocked), blockedMutual: becomes(blockedMutual),
		}},
		"block": {block, map[Pair]want{
			nothing: becomes(blocking), asked: becomes(blocking), wasAsked: becomes(blocking), friends: becomes(blocking),
			blocking: becomes(blocking), blocked: becomes(blockedMutual), blockedMutual: becomes(blockedMutual),
		}},
		"unblock": {unblock, map[Pair]want{
			nothing: becomes(nothing), asked: becomes(asked), wasAsked: becomes(wasAsked), friends: becomes(friends),
			blocking: becomes(nothing), blocked: becomes(blocked), blockedMutual: becomes(blocked),
		}},
	} {
		for pair, want := range c.want {
			got, err := c.rule(Standing{Pair: pair, CallerKnown: true, CallerActive: true, PeerKnown: true, PeerActive: true})
			require.Equal(t, want.err, err, "%s %v", name, pair)
			require.Equal(t, want.pair, got, "%s %v", name, pair)
		}
		require.Len(t, c.want, 7)
	}
}

// Users who are not there, or no more.
func TestRulesForAbsentPeers(t *testing.T) {
	gone := func(p Pair) Standing { return Standing{Pair: p, PeerKnown: true} }
	for name, c := range map[string]struct {
		rule rule
		st   Standing
		want refusal.Reason
	}{
		"request of an unknown user":     {request, Standing{}, refusal.RecipientUnavailable},
		"request of a deactivated user":  {request, gone(nothing), refusal.RecipientUnavailable},
		"request of a deactivated peer":  {request, gone(friends), refusal.RecipientUnavailable},
		"request of whom one blocked":    {request, gone(blocking), refusal.RecipientBlockedByYou},
		"accept a deactivated user":      {accept, gone(wasAsked), refusal.RecipientUnavailable},
		"accept an unknown user":         {accept, Standing{}, refusal.RelationUnavailable},
		"decline a deactivated user":     {decline, gone(wasAsked), ""},
		"remove a deactivated user":      {remove, gone(friends), ""},
		"remove an unknown user":         {remove, Standing{}, ""},
		"block a deactivated user":       {block, gone(nothing), ""},
		"block an unknown user":          {block, Standing{}, refusal.UserUnavailable},
		"unblock an unknown user":        {unblock, Standing{}, ""},
		"unblock a deactivated user":     {unblock, gone(blocking), ""},
		"accept again, then deactivated": {accept, gone(friends), ""},
	} {
		_, err := c.rule(c.st)
		got, _ := refusal.Of(err)
		require.Equal(t, c.want, got, name)
	}
}

// Unknown, deactivated and blocking users must be told apart by nothing: it is one and the same error.
func TestRecipientsLookTheSame(t *testing.T) {
	for _, st := range []Standing{{}, {PeerKnown: true}, {Pair: blocked, PeerKnown: true, PeerActive: true}} {
		_, err := request(st)
		require.Same(t, errRecipient, err)
	}
}

// Whatever two users do, in whatever order, the invariants of the package hold.
func TestInvariants(t *testing.T) {
	rules := []rule{request, accept, decline, remove, block, unblock}
	rapid.Check(t, func(t *rapid.T) {
		var p Pair
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			apply := rules[rapid.IntRange(0, len(rules)-1).Draw(t, "rule")]
			active := rapid.Bool().Draw(t, "active")
			if rapid.Bool().Draw(t, "other side") {
				p = p.Flip()
			}
			after, err := apply(Standing{Pair: p, CallerKnown: true, CallerActive: true, PeerKnown: true, PeerActive: active})
			if err != nil {
				continue
			}
			require.Contains(t, []Pair{nothing, asked, wasAsked, friends, blocking, blocked, blockedMutual}, after)
			if p.Other == MarkBlocked {
				require.Equal(t, MarkBlocked, after.Other, "only who blocked can end it")
			}
			// Doing it again changes nothing.
			again, err := apply(Standing{Pair: after, CallerKnown: true, CallerActive: true, PeerKnown: true, PeerActive: active})
			if err == nil {
				require.Equal(t, after, again)
			}
			p = after
		}
	})
}
