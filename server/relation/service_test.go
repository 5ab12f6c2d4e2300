package relation_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/refusal"
	"github.com/parley-im/parley/server/relation"
)

const (
	none      = parleyv1.RelationKind_RELATION_KIND_UNSPECIFIED
	friend    = parleyv1.RelationKind_RELATION_KIND_FRIEND
	requested = parleyv1.RelationKind_RELATION_KIND_REQUESTED
	received  = parleyv1.RelationKind_RELATION_KIND_REQUEST_RECEIVED
	blocked   = parleyv1.RelationKind_RELATION_KIND_BLOCKED
)

func TestFriendship(t *testing.T) {
	w := newWorld(t, "alice", "bob")
	ctx := t.Context()

	r, err := w.Request(ctx, on("alice"), "bob")
	require.NoError(t, err)
	require.Equal(t, relation.Relation{UserID: "bob", Kind: relation.Requested, UpdatedAt: w.now()}, r)
	require.Equal(t, map[string]relation.Mark{"alice>bob": relation.MarkRequested}, w.rows())
	require.Equal(t, []tell{{"alice", "alice-phone", "bob", requested}, {"bob", "", "alice", received}}, w.told.take())
	require.Equal(t, []string{"alice>bob", "bob>alice"}, w.noted())

	// Again: the same answer, later, and nobody is told.
	asked := w.now()
	w.clock.Advance(time.Hour)
	r, err = w.Request(ctx, on("alice"), "bob")
	require.NoError(t, err)
	require.Equal(t, relation.Relation{UserID: "bob", Kind: relation.Requested, UpdatedAt: asked}, r)
	require.Empty(t, w.told.take())
	require.Empty(t, w.noted())

	r, err = w.Respond(ctx, on("bob"), "alice", true)
	require.NoError(t, err)
	require.Equal(t, relation.Relation{UserID: "alice", Kind: relation.Friend, UpdatedAt: w.now()}, r)
	require.Equal(t, map[string]relation.Mark{"alice>bob": relation.MarkFriend, "bob>alice": relation.MarkFriend}, w.rows())
	require.Equal(t, []tell{{"bob", "bob-phone", "alice", friend}, {"alice", "", "bob", friend}}, w.told.take())
	require.Equal(t, []string{"alice>bob", "bob>alice"}, w.noted())

	// Both of these are repeated calls whose first answer may have been lost.
	since := w.now()
	w.clock.Advance(time.Hour)
	r, err = w.Respond(ctx, on("bob"), "alice", true)
	require.NoError(t, err)
	require.Equal(t, relation.Relation{UserID: "alice", Kind: relation.Friend, UpdatedAt: since}, r)
	r, err = w.Request(ctx, on("alice"), "bob")
	require.NoError(t, err)
	require.Equal(t, relation.Relation{UserID: "bob", Kind: relation.Friend, UpdatedAt: since}, r)
	require.Empty(t, w.told.take())

	require.NoError(t, w.Remove(ctx, on("alice"), "bob"))
	require.Empty(t, w.rows())
	require.Equal(t, []tell{{"alice", "alice-phone", "bob", none}, {"bob", "", "alice", none}}, w.told.take())
	require.Equal(t, []string{"alice>bob", "bob>alice"}, w.noted())
	require.NoError(t, w.Remove(ctx, on("alice"), "bob"))
	require.Empty(t, w.told.take())
	require.Empty(t, w.noted())
}

func TestRequestsThatMeet(t *testing.T) {
	w := newWorld(t, "alice", "bob")
	_, err := w.Request(t.Context(), on("bob"), "alice")
	require.NoError(t, err)
	r, err := w.Request(t.Context(), on("alice"), "bob")
	require.NoError(t, err)
	require.Equal(t, relation.Friend, r.Kind)
	require.Equal(t, map[string]relation.Mark{"alice>bob": relation.MarkFriend, "bob>alice": relation.MarkFriend}, w.rows())
}

func TestDeclineAndWithdraw(t *testing.T) {
	w := newWorld(t, "alice", "bob")
	ctx := t.Context()
	_, err := w.Request(ctx, on("alice"), "bob")
	require.NoError(t, err)
	w.told.take()
	w.noted()

	r, err := w.Respond(ctx, on("bob"), "alice", false)
	require.NoError(t, err)
	require.Equal(t, relation.Relation{UserID: "alice", UpdatedAt: w.now()}, r)
	require.Equal(t, []tell{{"bob", "bob-phone", "alice", none}, {"alice", "", "bob", none}}, w.told.take())
	// No row of bob's own changed, and bob's devices elsewhere must hear of it.
	require.Equal(t, []string{"alice>bob", "bob>alice"}, w.noted())
	_, err = w.Respond(ctx, on("bob"), "alice", false)
	refused(t, err, refusal.RelationUnavailable)
	_, err = w.Respond(ctx, on("bob"), "alice", true)
	refused(t, err, refusal.RelationUnavailable)

	_, err = w.Request(ctx, on("alice"), "bob")
	require.NoError(t, err)
	require.NoError(t, w.Remove(ctx, on("bob"), "alice"))
	require.Equal(t, map[string]relation.Mark{"alice>bob": relation.MarkRequested}, w.rows(), "bob asked for nothing")
	w.told.take()
	require.NoError(t, w.Remove(ctx, on("alice"), "bob"))
	require.Empty(t, w.rows())
	require.Equal(t, []tell{{"alice", "alice-phone", "bob", none}, {"bob", "", "alice", none}}, w.told.take())
}

func TestBlocks(t *testing.T) {
	w := newWorld(t, "alice", "bob")
	ctx := t.Context()
	_, err := w.Request(ctx, on("alice"), "bob")
	require.NoError(t, err)
	_, err = w.Request(ctx, on("bob"), "alice")
	require.NoError(t, err)
	w.told.take()
	w.noted()

	require.NoError(t, w.Block(ctx, on("alice"), "bob"))
	require.Equal(t, map[string]relation.Mark{"alice>bob": relation.MarkBlocked}, w.rows())
	require.Equal(t, []tell{{"alice", "alice-phone", "bob", blocked}, {"bob", "", "alice", none}}, w.told.take())
	require.Equal(t, []string{"alice>bob", "bob>alice"}, w.noted())
	require.NoError(t, w.Block(ctx, on("alice"), "bob"))
	require.Empty(t, w.told.take())

	_, err = w.Request(ctx, on("alice"), "bob")
	refused(t, err, refusal.RecipientBlockedByYou)
	_, err = w.Request(ctx, on("bob"), "alice")
	refused(t, err, refusal.RecipientUnavailable)

	// bob sees nothing of alice's block, whether it comes or goes: neither here nor on other nodes.
	require.NoError(t, w.Unblock(ctx, on("alice"), "bob"))
	require.NoError(t, w.Unblock(ctx, on("alice"), "bob"))
	require.NoError(t, w.Block(ctx, on("alice"), "bob"))
	require.Equal(t, []tell{{"alice", "alice-phone", "bob", none}, {"alice", "alice-phone", "bob", blocked}}, w.told.take())
	require.Equal(t, []string{"alice>bob", "alice>bob"}, w.noted())

	// Each has a block of their own.
	require.NoError(t, w.Block(ctx, on("bob"), "alice"))
	require.NoError(t, w.Unblock(ctx, on("alice"), "bob"))
	require.Equal(t, map[string]relation.Mark{"bob>alice": relation.MarkBlocked}, w.rows())
	_, err = w.Request(ctx, on("alice"), "bob")
	refused(t, err, refusal.RecipientUnavailable)
}

// A request that a block ends shows as ended to who had made or received it.
func TestBlockEndsRequests(t *testing.T) {
	w := newWorld(t, "alice", "bob")
	for _, asks := range [][2]string{{"alice", "bob"}, {"bob", "alice"}} {
		_, err := w.Request(t.Context(), on(asks[0]), asks[1])
		require.NoError(t, err)
		w.told.take()
		require.NoError(t, w.Block(t.Context(), on("alice"), "bob"))
		require.Equal(t, map[string]relation.Mark{"alice>bob": relation.MarkBlocked}, w.rows())
		require.Equal(t, []tell{{"alice", "alice-phone", "bob", blocked}, {"bob", "", "alice", none}}, w.told.take())
		require.NoError(t, w.Unblock(t.Context(), on("alice"), "bob"))
	}
}

func TestRefusals(t *testing.T) {
	w := newWorld(t, "alice", "bob", "gone")
	ctx := t.Context()
	w.exec(`UPDATE app_user SET deactivated_at = 'epoch' WHERE user_id = 'gone'`)
	calls := map[string]func(by, peer string) error{
		"request": func(by, peer string) error { _, err := w.Request(ctx, on(by), peer); return err },
		"accept":  func(by, peer string) error { _, err := w.Respond(ctx, on(by), peer, true); return err },
		"decline": func(by, peer string) error { _, err := w.Respond(ctx, on(by), peer, false); return err },
		"remove":  func(by, peer string) error { return w.Remove(ctx, on(by), peer) },
		"block":   func(by, peer string) error { return w.Block(ctx, on(by), peer) },
		"unblock": func(by, peer string) error { return w.Unblock(ctx, on(by), peer) },
	}
	for name, call := range calls {
		refused(t, call("alice", "alice"), refusal.SelfTarget)
		for _, id := range []string{"", "bob ", "b\x00b", "b\nb", "b\xffb", fmt.Sprintf("%065d", 0)} {
			require.ErrorIs(t, call("alice", id), refusal.New(refusal.InvalidField, ""), "%s %q", name, id)
		}
		refused(t, call("gone", "bob"), refusal.UserDeactivated)
		refused(t, call("stranger", "bob"), refusal.DeviceRevoked)
	}
	refused(t, calls["request"]("alice", "nobody"), refusal.RecipientUnavailable)
	refused(t, calls["request"]("alice", "gone"), refusal.RecipientUnavailable)
	refused(t, calls["block"]("alice", "nobody"), refusal.UserUnavailable)
	refused(t, calls["accept"]("alice", "nobody"), refusal.RelationUnavailable)
	require.NoError(t, calls["remove"]("alice", "nobody"))
	require.NoError(t, calls["unblock"]("alice", "nobody"))
	require.Empty(t, w.rows())
	require.Empty(t, w.told.take())
}

func TestList(t *testing.T) {
	w := newWorld(t, "alice", "b1", "b2", "f1", "f2", "o1", "r1", "r2", "r3", "x1")
	// o1 and x1 have relations with alice that do not show to her, r3 one that shows only once.
	w.exec(`INSERT INTO user_to_user (user_id, peer_id, kind, updated_at) SELECT u, p, k, 'epoch' FROM (VALUES
		('alice','f1',1), ('f1','alice',1), ('alice','f2',1), ('f2','alice',1), ('alice','o1',2), ('alice','b1',3),
		('alice','b2',3), ('r1','alice',2), ('r2','alice',2), ('x1','alice',3), ('b2','alice',3),
		('r3','alice',2), ('f1','r1',2)) v (u, p, k)`)
	all := map[string]relation.Kind{
		"b1": relation.Blocked, "b2": relation.Blocked, "f1": relation.Friend, "f2": relation.Friend,
		"o1": relation.Requested, "r1": relation.RequestReceived, "r2": relation.RequestReceived, "r3": relation.RequestReceived,
	}
	for _, limit := range []int{1, 2, 3, 7, 8, 9, 500} {
		require.Equal(t, all, w.list("alice", relation.None, limit))
		for _, kind := range []relation.Kind{relation.Friend, relation.Requested, relation.RequestReceived, relation.Blocked} {
			want := map[string]relation.Kind{}
			for user, k := range all {
				if k == kind {
					want[user] = k
				}
			}
			require.Equal(t, want, w.list("alice", kind, limit))
		}
	}
	require.Empty(t, w.list("nobody", relation.None, 10))
	page, more, err := w.List(t.Context(), "alice", relation.None, "r2", 10)
	require.NoError(t, err)
	require.False(t, more)
	require.Equal(t, []relation.Relation{{UserID: "r3", Kind: relation.RequestReceived, UpdatedAt: time.Unix(0, 0).UTC()}}, page)
}

func TestViews(t *testing.T) {
	w := newWorld(t, "alice", "bob", "carol")
	ctx := t.Context()
	_, err := w.Request(ctx, on("alice"), "bob")
	require.NoError(t, err)
	require.NoError(t, w.Block(ctx, on("carol"), "alice"))
	got, err := w.Views(ctx, []relation.Link{
		{UserID: "bob", PeerID: "alice"}, {UserID: "alice", PeerID: "bob"}, {UserID: "alice", PeerID: "carol"},
		{UserID: "carol", PeerID: "alice"}, {UserID: "bob", PeerID: "nobody"},
	})
	require.NoError(t, err)
	require.Equal(t, []relation.Relation{
		{UserID: "alice", Kind: relation.RequestReceived, UpdatedAt: w.now()},
		{UserID: "bob", Kind: relation.Requested, UpdatedAt: w.now()},
		{UserID: "carol"},
		{UserID: "alice", Kind: relation.Blocked, UpdatedAt: w.now()},
		{UserID: "nobody"},
	}, got)
	got, err = w.Views(ctx, nil)
	require.NoError(t, err)
	require.Empty(t, got)
	require.Nil(t, relation.Event(relation.Relation{UserID: "carol"}).GetRelation().GetRelation().GetUpdatedAt())
}

func TestBounds(t *testing.T) {
	w := newWorld(t, "alice", "bob", "carol", "dave")
	ctx := t.Context()
	fill := func(kind, n int) {
		w.exec(`INSERT INTO app_user (user_id, created_at) SELECT 'k' || $1::int || '-' || i, 'epoch' FROM generate_series(1, $2) i`, kind, n)
		w.exec(`INSERT INTO user_to_user (user_id, peer_id, kind, updated_at)
			SELECT 'alice', 'k' || $1::int || '-' || i, $1, 'epoch' FROM generate_series(1, $2) i`, kind, n)
	}
	fill(1, relation.MaxTies/2)
	fill(2, relation.MaxTies-relation.MaxTies/2-1)
	fill(3, relation.MaxBlocks)

	_, err := w.Request(ctx, on("carol"), "alice")
	require.NoError(t, err, "who is asked needs no room")
	_, err = w.Request(ctx, on("alice"), "bob")
	require.NoError(t, err, "the last one")
	for name, full := range map[string]func() error{
		"request": func() error { _, err := w.Request(ctx, on("alice"), "dave"); return err },
		"meeting": func() error { _, err := w.Request(ctx, on("alice"), "carol"); return err },
		"accept":  func() error { _, err := w.Respond(ctx, on("alice"), "carol", true); return err },
		"block":   func() error { return w.Block(ctx, on("alice"), "bob") },
	} {
		require.ErrorIs(t, full(), refusal.New(refusal.TooManyRelations, ""), name)
	}
	r, err := w.Respond(ctx, on("bob"), "alice", true)
	require.NoError(t, err, "a request that becomes a friendship takes no more room")
	require.Equal(t, relation.Friend, r.Kind)
	require.NoError(t, w.Remove(ctx, on("alice"), "bob"))
	_, err = w.Respond(ctx, on("alice"), "carol", true)
	require.NoError(t, err)
	require.NoError(t, w.Unblock(ctx, on("alice"), "k3-1"))
	require.NoError(t, w.Block(ctx, on("alice"), "bob"))
}
