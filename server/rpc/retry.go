package rpc

import (
	"strconv"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/types/known/durationpb"
)

// What says when to repeat a call travels three ways: as metadata retry_after_ms of the detail, which the SDKs read, as
// google.rpc.RetryInfo, which gRPC's clients know, and as the header Retry-After, which proxies and HTTP clients know.

// retryAfterKey is the metadata that says after how many milliseconds to repeat.
const retryAfterKey = "retry_after_ms"

// retryAfter is when to repeat the call; 0 where nothing is said about that.
func (v verdict) retryAfter() time.Duration {
	ms, err := strconv.ParseInt(v.detail.GetMetadata()[retryAfterKey], 10, 32)
	if err != nil || ms <= 0 {
		return 0
	}
	return time.Duration(ms) * time.Millisecond
}

func retryInfo(after time.Duration) *errdetails.RetryInfo {
	return &errdetails.RetryInfo{RetryDelay: durationpb.New(after)}
}

// seconds is a duration as Retry-After has it (RFC 9110, section 10.2.3): whole seconds, not less than meant.
func seconds(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}
