package rpc

import (
	"context"
	"strconv"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/page"
	"github.com/parley-im/parley/server/relation"
)

// defaultRelations is the page size of ListRelations where the request says 0.
const defaultRelations = 100

// RelationServer implements RelationService.
type RelationServer struct {
	Relations *relation.Service
}

// RequestFriend implements RelationService.
func (s *RelationServer) RequestFriend(ctx context.Context, req *parleyv1.RequestFriendRequest) (*parleyv1.RequestFriendResponse, error) {
	r, err := s.Relations.Request(ctx, actor(ctx), req.GetUserId())
	if err != nil {
		return nil, err
	}
	return &parleyv1.RequestFriendResponse{Relation: r.Proto()}, nil
}

// RespondFriendRequest implements RelationService.
func (s *RelationServer) RespondFriendRequest(ctx context.Context, req *parleyv1.RespondFriendRequestRequest) (*parleyv1.RespondFriendRequestResponse, error) {
	r, err := s.Relations.Respond(ctx, actor(ctx), req.GetUserId(), req.GetAccept())
	if err != nil {
		return nil, err
	}
	return &parleyv1.RespondFriendRequestResponse{Relation: r.Proto()}, nil
}

// RemoveFriend implements RelationService.
func (s *RelationServer) RemoveFriend(ctx context.Context, req *parleyv1.RemoveFriendRequest) (*parleyv1.RemoveFriendResponse, error) {
	if err := s.Relations.Remove(ctx, actor(ctx), req.GetUserId()); err != nil {
		return nil, err
	}
	return &parleyv1.RemoveFriendResponse{}, nil
}

// BlockUser implements RelationService.
func (s *RelationServer) BlockUser(ctx context.Context, req *parleyv1.BlockUserRequest) (*parleyv1.BlockUserResponse, error) {
	if err := s.Relations.Block(ctx, actor(ctx), req.GetUserId()); err != nil {
		return nil, err
	}
	return &parleyv1.BlockUserResponse{}, nil
}

// UnblockUser implements RelationService.
func (s *RelationServer) UnblockUser(ctx context.Context, req *parleyv1.UnblockUserRequest) (*parleyv1.UnblockUserResponse, error) {
	if err := s.Relations.Unblock(ctx, actor(ctx), req.GetUserId()); err != nil {
		return nil, err
	}
	return &parleyv1.UnblockUserResponse{}, nil
}

// ListRelations implements RelationService.
func (s *RelationServer) ListRelations(ctx context.Context, req *parleyv1.ListRelationsRequest) (*parleyv1.ListRelationsResponse, error) {
	user := PrincipalFrom(ctx).UserID
	listing := page.Relations.For(user, strconv.Itoa(int(req.GetKind())))
	var after string
	if err := page.Decode(listing, req.GetPageToken(), &after); err != nil {
		return nil, err
	}
	limit := int(req.GetLimit())
	if limit == 0 {
		limit = defaultRelations
	}
	kind := relation.Kind(req.GetKind()) //nolint:gosec // validated to be a defined value
	list, more, err := s.Relations.List(ctx, user, kind, after, limit)
	if err != nil {
		return nil, err
	}
	res := &parleyv1.ListRelationsResponse{Relations: make([]*parleyv1.Relation, len(list))}
	for i, r := range list {
		res.Relations[i] = r.Proto()
	}
	if more {
		res.NextPageToken = page.Encode(listing, list[len(list)-1].UserID)
	}
	return res, nil
}
