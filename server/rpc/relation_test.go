package rpc

import (
	"fmt"
	"net/http"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/gen/parley/v1/parleyv1connect"
)

func TestRelationService(t *testing.T) {
	protocols(t, func(t *testing.T, client connect.HTTPClient, opts ...connect.ClientOption) {
		p := newPeople(t, nil, "alice", "bob")
		alice := parleyv1connect.NewRelationServiceClient(client, p.url, append(opts, as("alice/phone"))...)
		bob := parleyv1connect.NewRelationServiceClient(client, p.url, append(opts, as("bob/phone"))...)
		ctx := t.Context()

		asked, err := alice.RequestFriend(ctx, &parleyv1.RequestFriendRequest{UserId: "bob"})
		require.NoError(t, err)
		require.Equal(t, "bob", asked.GetRelation().GetUserId())
		require.Equal(t, parleyv1.RelationKind_RELATION_KIND_REQUESTED, asked.GetRelation().GetKind())
		require.True(t, asked.GetRelation().GetUpdatedAt().AsTime().Equal(p.clock.Now()))
		list, err := bob.ListRelations(ctx, &parleyv1.ListRelationsRequest{})
		require.NoError(t, err)
		require.Len(t, list.GetRelations(), 1)
		require.Equal(t, parleyv1.RelationKind_RELATION_KIND_REQUEST_RECEIVED, list.GetRelations()[0].GetKind())
		require.Empty(t, list.GetNextPageToken())

		answered, err := bob.RespondFriendRequest(ctx, &parleyv1.RespondFriendRequestRequest{UserId: "alice", Accept: true})
		require.NoError(t, err)
		require.Equal(t, parleyv1.RelationKind_RELATION_KIND_FRIEND, answered.GetRelation().GetKind())
		_, err = alice.RemoveFriend(ctx, &parleyv1.RemoveFriendRequest{UserId: "bob"})
		require.NoError(t, err)
		_, err = bob.RespondFriendRequest(ctx, &parleyv1.RespondFriendRequestRequest{UserId: "alice"})
		requireError(t, err, connect.CodeFailedPrecondition, parleyv1.ErrorReason_ERROR_REASON_RELATION_UNAVAILABLE)

		_, err = bob.BlockUser(ctx, &parleyv1.BlockUserRequest{UserId: "alice"})
		require.NoError(t, err)
		blocked := requireErrorOf(t)(alice.RequestFriend(ctx, &parleyv1.RequestFriendRequest{UserId: "bob"}))
		unknown := requireErrorOf(t)(alice.RequestFriend(ctx, &parleyv1.RequestFriendRequest{UserId: "nobody"}))
		require.Equal(t, blocked, unknown, "the two look the same")
		requireError(t, blocked, connect.CodePermissionDenied, parleyv1.ErrorReason_ERROR_REASON_RECIPIENT_UNAVAILABLE)
		_, err = bob.RequestFriend(ctx, &parleyv1.RequestFriendRequest{UserId: "alice"})
		requireError(t, err, connect.CodePermissionDenied, parleyv1.ErrorReason_ERROR_REASON_RECIPIENT_BLOCKED_BY_YOU)
		_, err = bob.UnblockUser(ctx, &parleyv1.UnblockUserRequest{UserId: "alice"})
		require.NoError(t, err)
		_, err = bob.BlockUser(ctx, &parleyv1.BlockUserRequest{UserId: "bob"})
		requireError(t, err, connect.CodeInvalidArgument, parleyv1.ErrorReason_ERROR_REASON_SELF_TARGET)
		_, err = bob.BlockUser(ctx, &parleyv1.BlockUserRequest{UserId: "nobody"})
		requireError(t, err, connect.CodeNotFound, parleyv1.ErrorReason_ERROR_REASON_USER_UNAVAILABLE)
		_, err = bob.BlockUser(ctx, &parleyv1.BlockUserRequest{UserId: "ali\x00ce"})
		detail := requireError(t, err, connect.CodeInvalidArgument, parleyv1.ErrorReason_ERROR_REASON_INVALID_FIELD)
		require.Equal(t, "user_id", detail.GetMetadata()["field"])
	})
}

// requireErrorOf returns the error of a call that must fail, as the client sees it but for the connection's metadata.
func requireErrorOf(t *testing.T) func(_ any, err error) *connect.Error {
	return func(_ any, err error) *connect.Error {
		t.Helper()
		var ce *connect.Error
		require.ErrorAs(t, err, &ce)
		clear(ce.Meta())
		return ce
	}
}

func TestListRelationsPages(t *testing.T) {
	var users []string
	for i := range 250 {
		users = append(users, fmt.Sprintf("u%03d", i))
	}
	p := newPeople(t, nil, append(users, "alice", "bob")...)
	ctx := t.Context()
	alice := p.relations("alice/phone")
	for _, u := range users {
		_, err := alice.BlockUser(ctx, &parleyv1.BlockUserRequest{UserId: u})
		require.NoError(t, err)
	}
	req := &parleyv1.ListRelationsRequest{}
	var got []string
	var sizes []int
	for {
		page, err := alice.ListRelations(ctx, req)
		require.NoError(t, err)
		for _, r := range page.GetRelations() {
			require.Equal(t, parleyv1.RelationKind_RELATION_KIND_BLOCKED, r.GetKind())
			got = append(got, r.GetUserId())
		}
		sizes = append(sizes, len(page.GetRelations()))
		if req.PageToken = page.GetNextPageToken(); req.GetPageToken() == "" {
			break
		}
	}
	require.Equal(t, users, got)
	require.Equal(t, []int{100, 100, 50}, sizes)

	first, err := alice.ListRelations(ctx, &parleyv1.ListRelationsRequest{Limit: 1})
	require.NoError(t, err)
	token := first.GetNextPageToken()
	for name, call := range map[string]func() error{
		"another user": func() error {
			_, err := p.relations("bob/phone").ListRelations(ctx, &parleyv1.ListRelationsRequest{PageToken: token})
			return err
		},
		"another kind": func() error {
			_, err := alice.ListRelations(ctx, &parleyv1.ListRelationsRequest{PageToken: token,
				Kind: parleyv1.RelationKind_RELATION_KIND_BLOCKED})
			return err
		},
		"nonsense": func() error {
			_, err := alice.ListRelations(ctx, &parleyv1.ListRelationsRequest{PageToken: "nonsense"})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			requireError(t, call(), connect.CodeInvalidArgument, parleyv1.ErrorReason_ERROR_REASON_PAGE_TOKEN_INVALID)
		})
	}
	_, err = alice.ListRelations(ctx, &parleyv1.ListRelationsRequest{PageToken: token, Limit: 500})
	require.NoError(t, err, "the limit may change from page to page")
}

func TestRelationsOverREST(t *testing.T) {
	p := newPeople(t, nil, "alice", "bob")
	call := func(method, path, body string) string {
		status, got := do(t, method, p.url+path, "application/json", body, "Authorization", "Bearer alice/phone")
		require.Equal(t, http.StatusOK, status, got)
		return got
	}
	require.Contains(t, call(http.MethodPost, "/v1/friends/bob/request", `{}`), "RELATION_KIND_REQUESTED")
	require.Contains(t, call(http.MethodGet, "/v1/relations?kind=RELATION_KIND_REQUESTED&limit=5", ""), `"bob"`)
	call(http.MethodDelete, "/v1/friends/bob", "")
	call(http.MethodPut, "/v1/blocks/bob", `{}`)
	call(http.MethodDelete, "/v1/blocks/bob", "")
	require.NotContains(t, call(http.MethodGet, "/v1/relations", ""), "bob")
}
