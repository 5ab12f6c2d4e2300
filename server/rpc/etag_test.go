package rpc

import (
	"context"
	"io"
	"net/http"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

// An answer that the client has is not sent again; another one is, and what is refused has no tag.
func TestConditionalGet(t *testing.T) {
	total, sessions := int64(1), 0
	f := &fakes{unread: func(context.Context, *parleyv1.GetUnreadRequest) (*parleyv1.GetUnreadResponse, error) {
		res := &parleyv1.GetUnreadResponse{Total: total}
		for range sessions {
			res.Sessions = append(res.Sessions, &parleyv1.SessionUnread{SessionId: uuid.NewString()})
		}
		return res, nil
	}}
	url := serve(t, f.config(t))
	get := func(token, known string) (int, http.Header, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/v1/unread", nil)
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("Accept-Encoding", "identity")
		if known != "" {
			req.Header.Set("If-None-Match", known)
		}
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		return res.StatusCode, res.Header, string(body)
	}
	status, header, body := get(aliceToken, "")
	require.Equal(t, http.StatusOK, status)
	require.JSONEq(t, `{"total":"1"}`, body)
	tag := header.Get("ETag")
	require.NotEmpty(t, tag)
	require.Equal(t, "private, no-cache", header.Get("Cache-Control"))

	for _, known := range []string{tag, `"other", ` + tag, "*"} {
		status, header, body = get(aliceToken, known)
		require.Equal(t, http.StatusNotModified, status)
		require.Empty(t, body)
		require.Equal(t, tag, header.Get("ETag"))
	}
	status, header, _ = get("wrong", tag)
	require.Equal(t, http.StatusUnauthorized, status)
	require.Empty(t, header.Get("ETag"))

	total = 2
	status, header, body = get(aliceToken, tag)
	require.Equal(t, http.StatusOK, status)
	require.JSONEq(t, `{"total":"2"}`, body)
	require.NotEqual(t, tag, header.Get("ETag"))

	sessions = 2 * maxTagged / len(`{"sessionId":"01890a5d-ac96-774b-bcce-b302099a8057"}`)
	status, header, body = get(aliceToken, "*")
	require.Equal(t, http.StatusOK, status, "too large to be held")
	require.Empty(t, header.Get("ETag"))
	require.Greater(t, len(body), maxTagged)
}
