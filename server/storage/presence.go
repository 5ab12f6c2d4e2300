package storage

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/parley-im/parley/gen/sqlc"
	"github.com/parley-im/parley/server/presence"
)

// boardTTL is how long a user's entry on the board lives after the last change or refresh: entries of nodes that died do
// not count meanwhile.
const boardTTL = 10 * time.Minute

// PresenceAudience implements presence.Audience.
type PresenceAudience struct{ *DB }

// Visible implements presence.Audience.
func (s PresenceAudience) Visible(ctx context.Context, viewer string, userIDs []string) ([]presence.Seen, error) {
	known := slices.DeleteFunc(slices.Clone(userIDs), func(id string) bool { return !isText(id) }) // nobody is called so
	rows, err := s.q.PresenceVisible(ctx, s.pool, sqlc.PresenceVisibleParams{Viewer: viewer, UserIds: known})
	if err != nil {
		return nil, Fault(err)
	}
	out := make([]presence.Seen, len(rows))
	for i, r := range rows {
		out[i].UserID = r.UserID
		if r.LastSeenAt.Unix() > 0 {
			out[i].LastSeen = r.LastSeenAt
		}
	}
	return out, nil
}

// PresenceBoard implements presence.Board: per user a hash of devices and their nodes. epoch tells the life of the log,
// which keeps databases that share a Redis apart.
type PresenceBoard struct {
	client redis.UniversalClient
	epoch  func() string
}

// NewPresenceBoard returns a board.
func NewPresenceBoard(client redis.UniversalClient, epoch func() string) *PresenceBoard {
	return &PresenceBoard{client, epoch}
}

func (b *PresenceBoard) key(userID string) string { return "presence:{" + userID + "}:" + b.epoch() }

// offlineScript takes a device off, unless another node has put it on since. KEYS: hash. ARGV: device, node.
var offlineScript = redis.NewScript(`
if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then return redis.call('HDEL', KEYS[1], ARGV[1]) end
return 0
`)

// Put implements presence.Board.
func (b *PresenceBoard) Put(ctx context.Context, node string, changes []presence.Change) error {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	pipe := b.client.Pipeline()
	for _, c := range changes {
		key := b.key(c.UserID)
		if c.Online {
			pipe.HSet(ctx, key, c.DeviceID, node)
			pipe.PExpire(ctx, key, boardTTL)
		} else {
			offlineScript.Eval(ctx, pipe, []string{key}, c.DeviceID, node)
		}
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	return nil
}

// Get implements presence.Board.
func (b *PresenceBoard) Get(ctx context.Context, userIDs []string) ([][]presence.Place, error) {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	pipe := b.client.Pipeline()
	cmds := make([]*redis.MapStringStringCmd, len(userIDs))
	for i, id := range userIDs {
		cmds[i] = pipe.HGetAll(ctx, b.key(id))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	out := make([][]presence.Place, len(userIDs))
	for i, cmd := range cmds {
		for device, node := range cmd.Val() {
			out[i] = append(out[i], presence.Place{Device: device, Node: node})
		}
	}
	return out, nil
}
