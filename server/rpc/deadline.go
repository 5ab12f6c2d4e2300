package rpc

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/parley-im/parley/gen/parley/v1/parleyv1connect"
)

// share is which part of Config.UnaryTimeout an rpc may take, in percent.
type share int

const (
	// whole is for what changes something: whoever is cut off does not know the outcome and has to ask again. And for reads
	// that may have much to read: a page of bodies, or all members of a large group.
	whole share = 100
	// half is for reads of little, by an index. What waits longer than that waits for a store that is in trouble, and it is
	// better to know, and not to stand in the queue for it.
	half share = 50
	// brief is for what is of no use any more when it is late, and asks no more than memory and Redis.
	brief share = 30
)

// shares are those of all unary rpcs; New fails when one is missing. Streams have no deadline: each write has.
var shares = map[share][]string{
	whole: {
		parleyv1connect.RelationServiceRequestFriendProcedure, parleyv1connect.RelationServiceRespondFriendRequestProcedure,
		parleyv1connect.RelationServiceRemoveFriendProcedure, parleyv1connect.RelationServiceBlockUserProcedure,
		parleyv1connect.RelationServiceUnblockUserProcedure,
		parleyv1connect.DeviceServiceRegisterDeviceProcedure, parleyv1connect.DeviceServiceRevokeDeviceProcedure,
		parleyv1connect.SessionServiceCreateSessionProcedure, parleyv1connect.SessionServiceListSessionsProcedure,
		parleyv1connect.SessionServiceUpdateSessionProcedure, parleyv1connect.SessionServiceAddMembersProcedure,
		parleyv1connect.SessionServiceRemoveMemberProcedure, parleyv1connect.SessionServiceLeaveSessionProcedure,
		parleyv1connect.SessionServiceSetMemberRoleProcedure, parleyv1connect.SessionServiceUpdateMembershipProcedure,
		parleyv1connect.SessionServiceListMembersProcedure,
		parleyv1connect.MessageServiceSendMessageProcedure, parleyv1connect.MessageServiceSendMessagesProcedure,
		parleyv1connect.MessageServiceRecallMessageProcedure, parleyv1connect.MessageServiceListMessagesProcedure,
		parleyv1connect.StateServiceMarkReadProcedure, parleyv1connect.StateServiceMarkUnreadProcedure,
		parleyv1connect.StateServiceDeleteForMeProcedure, parleyv1connect.StateServiceListReadersProcedure,
		parleyv1connect.SyncServicePullOfflineProcedure, parleyv1connect.SyncServiceAckProcedure,
		parleyv1connect.AdminServiceCreateTokenProcedure, parleyv1connect.AdminServiceUpsertUserProcedure,
		parleyv1connect.AdminServiceDeactivateUserProcedure,
		parleyv1connect.AdminServiceCreateWebhookProcedure, parleyv1connect.AdminServiceUpdateWebhookProcedure,
		parleyv1connect.AdminServiceDeleteWebhookProcedure, parleyv1connect.AdminServiceRotateWebhookSecretProcedure,
		parleyv1connect.AdminServiceReplayWebhookDeliveriesProcedure, parleyv1connect.AdminServiceTestWebhookProcedure,
	},
	half: {
		parleyv1connect.RelationServiceListRelationsProcedure, parleyv1connect.DeviceServiceListDevicesProcedure,
		parleyv1connect.SessionServiceGetSessionProcedure, parleyv1connect.MessageServiceGetMessageProcedure,
		parleyv1connect.StateServiceListStatesProcedure, parleyv1connect.StateServiceGetUnreadProcedure,
		parleyv1connect.AdminServiceGetStatsProcedure, parleyv1connect.AdminServiceListWebhooksProcedure,
		parleyv1connect.AdminServiceListWebhookDeliveriesProcedure,
	},
	brief: {
		parleyv1connect.PresenceServiceGetPresenceProcedure, parleyv1connect.PresenceServiceWatchPresenceProcedure,
		parleyv1connect.SyncServiceSendSignalProcedure,
	},
}

// deadlines are how long each rpc may take, by procedure.
type deadlines map[string]time.Duration

// Deadlines returns how long each unary rpc may take, by procedure, where none may take longer than longest.
func Deadlines(longest time.Duration) map[string]time.Duration {
	out := make(map[string]time.Duration)
	for part, procedures := range shares {
		for _, p := range procedures {
			out[p] = longest * time.Duration(part) / 100
		}
	}
	return out
}

// checkDeadlines fails unless the shares have every unary procedure once, and nothing else.
func checkDeadlines() error {
	var wrong []string
	times := make(map[string]int)
	for _, procedures := range shares {
		for _, p := range procedures {
			times[p]++
		}
	}
	methods(func(procedure string, m protoreflect.MethodDescriptor) {
		want := 1
		if m.IsStreamingServer() || m.IsStreamingClient() {
			want = 0
		}
		if times[procedure] != want {
			wrong = append(wrong, procedure)
		}
		delete(times, procedure)
	})
	for p := range times {
		wrong = append(wrong, p)
	}
	if len(wrong) == 0 {
		return nil
	}
	slices.Sort(wrong)
	return fmt.Errorf("rpc: not one deadline for %s", strings.Join(wrong, ", "))
}
