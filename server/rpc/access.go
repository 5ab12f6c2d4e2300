package rpc

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/gen/parley/v1/parleyv1connect"
	"github.com/parley-im/parley/server/session"
)

// access says who may call a procedure.
type access uint8

const (
	// undeclared is the zero value: nobody, and New fails.
	undeclared access = iota
	// anybody needs no token.
	anybody
	// user needs a valid token of a device that is registered and neither revoked nor of a deactivated user.
	user
	// newDevice needs a valid token, of a device that may be unknown yet.
	newDevice
	// admin needs the admin key.
	admin
)

// rights are the actions in a session that a procedure stands for. Every procedure whose request names a session is here, and
// its handler asks the domain for one of them (session.Authorize, parley_append); New fails otherwise.
var rights = map[string][]session.Action{
	parleyv1connect.SessionServiceGetSessionProcedure:       {session.Read},
	parleyv1connect.SessionServiceUpdateSessionProcedure:    {session.Update},
	parleyv1connect.SessionServiceAddMembersProcedure:       {session.Add},
	parleyv1connect.SessionServiceRemoveMemberProcedure:     {session.Remove},
	parleyv1connect.SessionServiceLeaveSessionProcedure:     {session.Leave},
	parleyv1connect.SessionServiceSetMemberRoleProcedure:    {session.GiveRole, session.Mute},
	parleyv1connect.SessionServiceUpdateMembershipProcedure: {session.SetOwn},
	parleyv1connect.SessionServiceListMembersProcedure:      {session.ListMembers},
	parleyv1connect.MessageServiceSendMessageProcedure:      {session.Send},
	parleyv1connect.MessageServiceSendMessagesProcedure:     {session.Send},
	parleyv1connect.MessageServiceRecallMessageProcedure:    {session.RecallOwn, session.RecallOthers},
	parleyv1connect.MessageServiceListMessagesProcedure:     {session.Read},
	parleyv1connect.MessageServiceGetMessageProcedure:       {session.Read},
	parleyv1connect.StateServiceMarkReadProcedure:           {session.Read},
	parleyv1connect.StateServiceMarkUnreadProcedure:         {session.Read},
	parleyv1connect.StateServiceDeleteForMeProcedure:        {session.Read},
	parleyv1connect.StateServiceListStatesProcedure:         {session.Read},
	parleyv1connect.StateServiceListReadersProcedure:        {session.ListMembers},
	parleyv1connect.StateServiceGetUnreadProcedure:          {session.Read},
	parleyv1connect.SyncServiceSubscribeProcedure:           {session.Read},
	parleyv1connect.SyncServiceAckProcedure:                 {session.Read},
	parleyv1connect.SyncServiceSendSignalProcedure:          {session.Signal},
}

// Rights returns the actions that a procedure stands for, such as /parley.v1.SyncService/Ack; none where its request names no
// session.
func Rights(procedure string) []session.Action { return slices.Clone(rights[procedure]) }

// checkRights fails unless the table has the procedures whose requests name sessions and no others.
func checkRights(table map[string][]session.Action) error {
	var errs []error
	methods(func(procedure string, m protoreflect.MethodDescriptor) {
		if names, has := namesSession(m.Input(), 0), len(table[procedure]) > 0; names != has {
			errs = append(errs, fmt.Errorf("rpc: %s: names a session: %t, but has a right in it: %t", procedure, names, has))
		}
	})
	return errors.Join(errs...)
}

// namesSession reports whether a request has a session's id anywhere in it. Requests are not nested deeper than the bound.
func namesSession(m protoreflect.MessageDescriptor, depth int) bool {
	if depth > 3 {
		return false
	}
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		if f.Name() == "session_id" || f.Name() == "session_ids" || f.Message() != nil && namesSession(f.Message(), depth+1) {
			return true
		}
	}
	return false
}

// declared is the access of every procedure.
var declared = map[string]access{
	parleyv1connect.RelationServiceRequestFriendProcedure:        user,
	parleyv1connect.RelationServiceRespondFriendRequestProcedure: user,
	parleyv1connect.RelationServiceRemoveFriendProcedure:         user,
	parleyv1connect.RelationServiceBlockUserProcedure:            user,
	parleyv1connect.RelationServiceUnblockUserProcedure:          user,
	parleyv1connect.RelationServiceListRelationsProcedure:        user,

	parleyv1connect.DeviceServiceRegisterDeviceProcedure: newDevice,
	parleyv1connect.DeviceServiceListDevicesProcedure:    user,
	parleyv1connect.DeviceServiceRevokeDeviceProcedure:   user,

	parleyv1connect.SessionServiceCreateSessionProcedure:    user,
	parleyv1connect.SessionServiceGetSessionProcedure:       user,
	parleyv1connect.SessionServiceListSessionsProcedure:     user,
	parleyv1connect.SessionServiceUpdateSessionProcedure:    user,
	parleyv1connect.SessionServiceAddMembersProcedure:       user,
	parleyv1connect.SessionServiceRemoveMemberProcedure:     user,
	parleyv1connect.SessionServiceLeaveSessionProcedure:     user,
	parleyv1connect.SessionServiceSetMemberRoleProcedure:    user,
	parleyv1connect.SessionServiceUpdateMembershipProcedure: user,
	parleyv1connect.SessionServiceListMembersProcedure:      user,

	parleyv1connect.MessageServiceSendMessageProcedure:   user,
	parleyv1connect.MessageServiceSendMessagesProcedure:  user,
	parleyv1connect.MessageServiceRecallMessageProcedure: user,
	parleyv1connect.MessageServiceListMessagesProcedure:  user,
	parleyv1connect.MessageServiceGetMessageProcedure:    user,

	parleyv1connect.StateServiceMarkReadProcedure:    user,
	parleyv1connect.StateServiceMarkUnreadProcedure:  user,
	parleyv1connect.StateServiceDeleteForMeProcedure: user,
	parleyv1connect.StateServiceListStatesProcedure:  user,
	parleyv1connect.StateServiceListReadersProcedure: user,
	parleyv1connect.StateServiceGetUnreadProcedure:   user,

	parleyv1connect.SyncServiceSubscribeProcedure:   user,
	parleyv1connect.SyncServicePullOfflineProcedure: user,
	parleyv1connect.SyncServiceAckProcedure:         user,
	parleyv1connect.SyncServiceSendSignalProcedure:  user,

	parleyv1connect.PresenceServiceGetPresenceProcedure:   user,
	parleyv1connect.PresenceServiceWatchPresenceProcedure: user,

	parleyv1connect.AdminServiceCreateTokenProcedure:    admin,
	parleyv1connect.AdminServiceUpsertUserProcedure:     admin,
	parleyv1connect.AdminServiceDeactivateUserProcedure: admin,
	parleyv1connect.AdminServiceGetStatsProcedure:       admin,

	parleyv1connect.AdminServiceCreateWebhookProcedure:           admin,
	parleyv1connect.AdminServiceListWebhooksProcedure:            admin,
	parleyv1connect.AdminServiceUpdateWebhookProcedure:           admin,
	parleyv1connect.AdminServiceDeleteWebhookProcedure:           admin,
	parleyv1connect.AdminServiceRotateWebhookSecretProcedure:     admin,
	parleyv1connect.AdminServiceListWebhookDeliveriesProcedure:   admin,
	parleyv1connect.AdminServiceReplayWebhookDeliveriesProcedure: admin,
	parleyv1connect.AdminServiceTestWebhookProcedure:             admin,
}

// serviceFiles are the protos whose services this server offers.
var serviceFiles = []protoreflect.FileDescriptor{
	parleyv1.File_parley_v1_relation_service_proto,
	parleyv1.File_parley_v1_device_service_proto,
	parleyv1.File_parley_v1_session_service_proto,
	parleyv1.File_parley_v1_message_service_proto,
	parleyv1.File_parley_v1_state_service_proto,
	parleyv1.File_parley_v1_sync_service_proto,
	parleyv1.File_parley_v1_presence_service_proto,
	parleyv1.File_parley_v1_admin_service_proto,
}

// methods calls fn for every method that this server offers.
func methods(fn func(procedure string, m protoreflect.MethodDescriptor)) {
	for _, f := range serviceFiles {
		for i := range f.Services().Len() {
			s := f.Services().Get(i)
			for j := range s.Methods().Len() {
				m := s.Methods().Get(j)
				fn("/"+string(s.FullName())+"/"+string(m.Name()), m)
			}
		}
	}
}

// checkAccess fails unless the table names every procedure and nothing else.
func checkAccess(table map[string]access) error {
	var missing []string
	known := make(map[string]bool)
	methods(func(procedure string, _ protoreflect.MethodDescriptor) {
		known[procedure] = true
		if table[procedure] == undeclared {
			missing = append(missing, procedure)
		}
	})
	if len(missing) > 0 {
		return fmt.Errorf("rpc: no access declared for %s", strings.Join(missing, ", "))
	}
	for procedure := range table {
		if !known[procedure] {
			missing = append(missing, procedure)
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		return fmt.Errorf("rpc: access declared for what does not exist: %s", strings.Join(missing, ", "))
	}
	return nil
}
