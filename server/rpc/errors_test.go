package rpc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/refusal"
)

// Every reason of the domain has a code and a member of the proto's enum, and the other way round.
func TestReasonsAgreeWithProto(t *testing.T) {
	own := map[string]bool{"UNSPECIFIED": true, "INTERNAL": true, "CALL_ENDED": true}
	for _, r := range refusal.Reasons() {
		_, ok := codes[r]
		require.True(t, ok, "no code for %s", r)
		_, ok = parleyv1.ErrorReason_value["ERROR_REASON_"+string(r)]
		require.True(t, ok, "%s is not in the proto", r)
		own[string(r)] = true
	}
	require.Len(t, codes, len(refusal.Reasons()))
	for name := range parleyv1.ErrorReason_value {
		require.True(t, own[strings.TrimPrefix(name, "ERROR_REASON_")], "%s is no reason of the domain", name)
	}
}

// The comments in the proto name the code of each reason: they are what clients read.
func TestCodesAgreeWithComments(t *testing.T) {
	raw, err := os.ReadFile("../../proto/parley/v1/error_reason.proto")
	require.NoError(t, err)
	entry := regexp.MustCompile(`// ([A-Z_]+):[^\n]*\n\s+ERROR_REASON_([A-Z_]+) = `)
	found := 0
	for _, m := range entry.FindAllStringSubmatch(string(raw), -1) {
		code, ok := codes[refusal.Reason(m[2])]
		if !ok {
			continue
		}
		found++
		require.Equal(t, strings.ToLower(m[1]), code.String(), m[2])
	}
	require.Equal(t, len(codes), found, "comments without a code")
}

func TestJudge(t *testing.T) {
	over, cancel := context.WithCancel(context.Background())
	cancel()
	away := fmt.Errorf("read: %w", refusal.New(refusal.Unavailable, "Away."))
	for name, c := range map[string]struct {
		ctx    context.Context
		err    error
		code   connect.Code
		reason parleyv1.ErrorReason
		fault  bool
	}{
		"refusal": {err: fmt.Errorf("send: %w", refusal.New(refusal.Muted, "No.")), code: connect.CodePermissionDenied,
			reason: parleyv1.ErrorReason_ERROR_REASON_MUTED},
		"canceled": {err: fmt.Errorf("x: %w", context.Canceled), code: connect.CodeCanceled,
			reason: parleyv1.ErrorReason_ERROR_REASON_CALL_ENDED},
		"deadline": {err: context.DeadlineExceeded, code: connect.CodeDeadlineExceeded,
			reason: parleyv1.ErrorReason_ERROR_REASON_CALL_ENDED},
		"away":           {err: away, code: connect.CodeUnavailable, reason: parleyv1.ErrorReason_ERROR_REASON_UNAVAILABLE},
		"away, but over": {ctx: over, err: away, code: connect.CodeCanceled, reason: parleyv1.ErrorReason_ERROR_REASON_CALL_ENDED},
		"unknown": {err: errors.New("secret"), code: connect.CodeInternal,
			reason: parleyv1.ErrorReason_ERROR_REASON_INTERNAL, fault: true},
		"unknown reason": {err: refusal.New("NEW", "x"), code: connect.CodeInternal,
			reason: parleyv1.ErrorReason_ERROR_REASON_INTERNAL, fault: true},
		"connect's own": {err: connect.NewError(connect.CodeInvalidArgument, errors.New("secret")),
			code: connect.CodeInvalidArgument, reason: parleyv1.ErrorReason_ERROR_REASON_INVALID_FIELD},
		"broken connection": {err: connect.NewError(connect.CodeUnknown, errors.New("secret")),
			code: connect.CodeCanceled, reason: parleyv1.ErrorReason_ERROR_REASON_CALL_ENDED},
		"caller hung up": {err: fmt.Errorf("write to stream: %w", hungUp(syscall.EPIPE)), code: connect.CodeCanceled,
			reason: parleyv1.ErrorReason_ERROR_REASON_CALL_ENDED},
		"store hung up": {err: fmt.Errorf("read: %w", syscall.EPIPE), code: connect.CodeInternal,
			reason: parleyv1.ErrorReason_ERROR_REASON_INTERNAL, fault: true},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := c.ctx
			if ctx == nil {
				ctx = t.Context()
			}
			v := judge(ctx, c.err)
			require.Equal(t, c.code, v.code)
			require.Equal(t, c.reason, v.reason())
			require.Equal(t, c.fault, v.fault)
			require.NotContains(t, v.text, "secret")
			item := itemError(ctx, c.err)
			require.EqualValues(t, c.code, item.GetCode())
			require.Equal(t, v.text, item.GetMessage())
			require.Equal(t, c.reason, item.GetDetail().GetReason())
		})
	}
}
