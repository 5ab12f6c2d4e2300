package webhook

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/timestamppb"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/wire"
)

// testEvent is the type of what TestWebhook sends.
const testEvent = "webhook.test"

// encode makes the body of a request: a parley.v1.WebhookPayload as JSON.
func encode(event string, at time.Time, data *parleyv1.WebhookData) ([]byte, error) {
	raw, err := protojson.Marshal(&parleyv1.WebhookPayload{Type: event, Timestamp: timestamppb.New(at), Data: data})
	if err != nil {
		return nil, fmt.Errorf("encode a webhook's payload: %w", err)
	}
	var out bytes.Buffer // protojson puts in blanks at random
	if err := json.Compact(&out, raw); err != nil {
		return nil, fmt.Errorf("encode a webhook's payload: %w", err)
	}
	return out.Bytes(), nil
}

// entryPayload tells a log entry; users are for offline messages.
func entryPayload(event EventType, epoch string, e message.Entry, users []*parleyv1.OfflineUser) ([]byte, error) {
	return encode(event.String(), e.CreatedAt, &parleyv1.WebhookData{Epoch: epoch, Message: wire.Message(e), OfflineUsers: users})
}

// kinds are the relations by their numbers in user_to_user.
var kinds = map[int16]parleyv1.RelationKind{1: parleyv1.RelationKind_RELATION_KIND_FRIEND,
	2: parleyv1.RelationKind_RELATION_KIND_REQUESTED, 3: parleyv1.RelationKind_RELATION_KIND_BLOCKED}

func relationPayload(epoch string, d Delivery) ([]byte, error) {
	if len(d.Users) != 2 {
		return nil, fmt.Errorf("delivery %s is about a relation of %d users", d.ID, len(d.Users))
	}
	return encode(RelationChanged.String(), d.QueuedAt, &parleyv1.WebhookData{Epoch: epoch,
		Relation: &parleyv1.WebhookRelation{UserId: d.Users[0], PeerId: d.Users[1], Kind: kinds[d.Relation]}})
}
