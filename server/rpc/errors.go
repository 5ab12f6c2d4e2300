package rpc

import (
	"context"
	"errors"
	"net/http"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/refusal"
)

// codes is the table of error_reason.proto: which code each reason travels under.
var codes = map[refusal.Reason]connect.Code{
	refusal.TokenMissing:    connect.CodeUnauthenticated,
	refusal.TokenInvalid:    connect.CodeUnauthenticated,
	refusal.TokenExpired:    connect.CodeUnauthenticated,
	refusal.APIKeyInvalid:   connect.CodeUnauthenticated,
	refusal.UserDeactivated: connect.CodeUnauthenticated,
	refusal.DeviceRevoked:   connect.CodeUnauthenticated,
	refusal.NotAllowed:      connect.CodePermissionDenied,

	refusal.InvalidField:          connect.CodeInvalidArgument,
	refusal.SessionUnavailable:    connect.CodePermissionDenied,
	refusal.MessageUnavailable:    connect.CodeNotFound,
	refusal.RecipientUnavailable:  connect.CodePermissionDenied,
	refusal.RecipientBlockedByYou: connect.CodePermissionDenied,
	refusal.UserUnavailable:       connect.CodeNotFound,
	refusal.DeviceUnavailable:     connect.CodeNotFound,
	refusal.RelationUnavailable:   connect.CodeFailedPrecondition,
	refusal.SelfTarget:            connect.CodeInvalidArgument,

	refusal.RoleTooLow:      connect.CodePermissionDenied,
	refusal.Muted:           connect.CodePermissionDenied,
	refusal.LastOwner:       connect.CodeFailedPrecondition,
	refusal.DirectSession:   connect.CodeFailedPrecondition,
	refusal.GroupFull:       connect.CodeResourceExhausted,
	refusal.MessageIDReused: connect.CodeAlreadyExists,
	refusal.MessageRecalled: connect.CodeFailedPrecondition,
	refusal.NotRecallable:   connect.CodePermissionDenied,

	refusal.CursorBeyondHead: connect.CodeOutOfRange,
	refusal.CursorInvisible:  connect.CodeOutOfRange,
	refusal.EpochChanged:     connect.CodeAborted,
	refusal.PageTokenInvalid: connect.CodeInvalidArgument,

	refusal.RequestTooLarge:  connect.CodeResourceExhausted,
	refusal.RateLimited:      connect.CodeResourceExhausted,
	refusal.Overloaded:       connect.CodeResourceExhausted,
	refusal.Unavailable:      connect.CodeUnavailable,
	refusal.StreamDisplaced:  connect.CodeFailedPrecondition,
	refusal.ShuttingDown:     connect.CodeUnavailable,
	refusal.TooManyDevices:   connect.CodeResourceExhausted,
	refusal.TooManySessions:  connect.CodeResourceExhausted,
	refusal.TooManyRelations: connect.CodeResourceExhausted,

	refusal.MessageRejected:       connect.CodePermissionDenied,
	refusal.ModerationUnavailable: connect.CodeUnavailable,
	refusal.WebhookUnavailable:    connect.CodeNotFound,
	refusal.WebhooksOff:           connect.CodeFailedPrecondition,
	refusal.ModerationTaken:       connect.CodeFailedPrecondition,
	refusal.TooManyWebhooks:       connect.CodeResourceExhausted,
}

// verdict is what the caller is told of an error.
type verdict struct {
	code   connect.Code
	text   string
	detail *parleyv1.ErrorDetail
	// fault is true for what the caller did not cause and is told nothing about: it must be logged.
	fault bool
}

func (v verdict) reason() parleyv1.ErrorReason { return v.detail.GetReason() }

// judge says what the caller is told of err, which must not be nil. It looks at the whole chain, in this order: the end of
// the call itself, refusals, a caller that hung up, errors that connect made, and everything else, which is a fault.
func judge(ctx context.Context, err error) verdict {
	var refused *refusal.Error
	isRefusal := errors.As(err, &refused) && refused != nil
	// A store that was waited for until the call's own deadline looks like a store that is away.
	if isRefusal && refused.Reason == refusal.Unavailable && ctx.Err() != nil {
		return ended(ctx.Err())
	}
	if isRefusal {
		return refusedAs(refused)
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return ended(err)
	}
	var gone *hungUpError
	if errors.As(err, &gone) {
		return ended(context.Canceled)
	}
	var ce *connect.Error
	if errors.As(err, &ce) {
		return transport(ce)
	}
	return internal
}

func refusedAs(e *refusal.Error) verdict {
	code, ok := codes[e.Reason]
	if !ok {
		return internal
	}
	return verdict{code: code, text: e.Text, detail: &parleyv1.ErrorDetail{
		Reason:   parleyv1.ErrorReason(parleyv1.ErrorReason_value["ERROR_REASON_"+string(e.Reason)]),
		Metadata: e.Meta,
	}}
}

var internal = verdict{code: connect.CodeInternal, text: "internal error", fault: true,
	detail: &parleyv1.ErrorDetail{Reason: parleyv1.ErrorReason_ERROR_REASON_INTERNAL}}

func ended(err error) verdict {
	v := verdict{code: connect.CodeCanceled, text: "The call was canceled before its answer.",
		detail: &parleyv1.ErrorDetail{Reason: parleyv1.ErrorReason_ERROR_REASON_CALL_ENDED}}
	if errors.Is(err, context.DeadlineExceeded) {
		v.code, v.text = connect.CodeDeadlineExceeded, "The call's time was over before its answer."
	}
	return v
}

var (
	undecodable = refusal.New(refusal.InvalidField, "The request is not a well-formed message of this rpc.",
		"rule", "encoding")
	tooLarge = refusal.New(refusal.RequestTooLarge, "The request is larger than 64 KiB.")
)

// hungUpError is the failure of a write to the caller's own connection: it went away, or did not read for as long as a write
// may take. It has a type, since the same failure of a store's connection is a fault.
type hungUpError struct{ cause error }

func (e *hungUpError) Error() string { return "the caller is gone: " + e.cause.Error() }
func (e *hungUpError) Unwrap() error { return e.cause }

// hungUp is err as the failure of a write to the caller; nil of nil.
func hungUp(err error) error {
	if err == nil {
		return nil
	}
	return &hungUpError{err}
}

// transport judges what connect itself found while it read the request. Its texts quote the request, so they go no further.
func transport(e *connect.Error) verdict {
	switch e.Code() {
	case connect.CodeInvalidArgument, connect.CodeUnimplemented: // not decodable, or not exactly one message
		return refusedAs(undecodable)
	case connect.CodeResourceExhausted:
		return refusedAs(tooLarge)
	case connect.CodeCanceled, connect.CodeUnknown: // unknown: the connection broke
		return ended(context.Canceled)
	case connect.CodeDeadlineExceeded:
		return ended(context.DeadlineExceeded)
	default:
		return internal
	}
}

// httpStatus is the status of a code where an error is no answer of an rpc, as google.rpc.Code has it.
func httpStatus(c connect.Code) int {
	switch c {
	case connect.CodeCanceled:
		return 499 // client closed request
	case connect.CodeInvalidArgument, connect.CodeFailedPrecondition, connect.CodeOutOfRange:
		return http.StatusBadRequest
	case connect.CodeDeadlineExceeded:
		return http.StatusGatewayTimeout
	case connect.CodeNotFound:
		return http.StatusNotFound
	case connect.CodeAlreadyExists, connect.CodeAborted:
		return http.StatusConflict
	case connect.CodePermissionDenied:
		return http.StatusForbidden
	case connect.CodeResourceExhausted:
		return http.StatusTooManyRequests
	case connect.CodeUnimplemented:
		return http.StatusNotImplemented
	case connect.CodeUnavailable:
		return http.StatusServiceUnavailable
	case connect.CodeUnauthenticated:
		return http.StatusUnauthorized
	default:
		return http.StatusInternalServerError
	}
}

// encodedDetail is a detail that is the same to the byte each time: the order of its metadata tells nothing.
func encodedDetail(m proto.Message) (*connect.ErrorDetail, error) {
	var encoded anypb.Any
	if err := anypb.MarshalFrom(&encoded, m, proto.MarshalOptions{Deterministic: true}); err != nil {
		return nil, err
	}
	return connect.NewErrorDetail(&encoded)
}

// wireError is the verdict as connect sends it.
func (v verdict) wireError() *connect.Error {
	out := connect.NewError(v.code, errors.New(v.text))
	if detail, err := encodedDetail(v.detail); err == nil {
		out.AddDetail(detail)
	}
	if after := v.retryAfter(); after > 0 {
		if detail, err := connect.NewErrorDetail(retryInfo(after)); err == nil {
			out.AddDetail(detail)
		}
	}
	return out
}

// asWire turns a domain error into what connect sends, logs it if it is a fault, and notes it for the call's end.
func asWire(ctx context.Context, err error) *connect.Error {
	v := judge(ctx, err)
	callFrom(ctx).answered(ctx, v, err)
	return v.wireError()
}

// itemError is the answer to one item of a batch: the same as the item alone would have got.
func itemError(ctx context.Context, err error) *parleyv1.SendMessageError {
	v := judge(ctx, err)
	if v.fault {
		c := callFrom(ctx)
		c.obs.fault(ctx, c, err)
	}
	return &parleyv1.SendMessageError{Code: int32(v.code), Message: v.text, Detail: v.detail} //nolint:gosec // at most 16
}
