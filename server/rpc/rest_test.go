package rpc

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/refusal"
)

func TestREST(t *testing.T) {
	registered := false
	var got *parleyv1.SendMessageRequest
	f := &fakes{
		send: func(_ context.Context, req *parleyv1.SendMessageRequest) (*parleyv1.SendMessageResponse, error) {
			got = req
			if req.GetPeerUserId() == "carol" {
				return nil, refusal.New(refusal.RecipientUnavailable, "No such recipient.")
			}
			return &parleyv1.SendMessageResponse{Seq: 3}, nil
		},
		register: func(context.Context, *parleyv1.RegisterDeviceRequest) (*parleyv1.RegisterDeviceResponse, error) {
			registered = true
			return &parleyv1.RegisterDeviceResponse{}, nil
		},
		unread: func(_ context.Context, req *parleyv1.GetUnreadRequest) (*parleyv1.GetUnreadResponse, error) {
			return &parleyv1.GetUnreadResponse{Total: int64(len(req.GetSessionIds()))}, nil
		},
	}
	url := serve(t, f.config(t))
	token := []string{"Authorization", "Bearer " + aliceToken}
	const id = "01890a5d-ac96-774b-bcce-b302099a8057"
	body := `{"messageId":"` + id + `","content":{"text":{"body":"hi"}}}`

	status, answer := post(t, url+"/v1/users/bob/messages", "application/json", body, token...)
	require.Equal(t, http.StatusOK, status, answer)
	require.JSONEq(t, `{"seq":"3"}`, answer)
	require.Equal(t, "bob", got.GetPeerUserId())

	for path, user := range map[string]string{"did:web:bob": "did:web:bob", "a%2Fb": "a/b", "50%2541": "50%41", "%C3%A9": "é"} {
		status, answer = post(t, url+"/v1/users/"+path+"/messages", "application/json", body, token...)
		require.Equal(t, http.StatusOK, status, answer)
		require.Equal(t, user, got.GetPeerUserId())
	}

	status, answer = do(t, http.MethodGet, url+"/v1/unread?session_ids="+id+"&session_ids="+id, "", "", token...)
	require.Equal(t, http.StatusOK, status, answer)
	require.JSONEq(t, `{"total":"2"}`, answer)

	for name, c := range map[string]struct {
		method, path, contentType, body string
		header                          []string
		status                          int
		reason                          string
	}{
		"refused":         {"POST", "/v1/users/carol/messages", "application/json", body, token, 403, "RECIPIENT_UNAVAILABLE"},
		"no token":        {"POST", "/v1/users/bob/messages", "application/json", body, nil, 401, "TOKEN_MISSING"},
		"broken rule":     {"POST", "/v1/sessions/private/messages", "application/json", body, token, 400, "INVALID_FIELD"},
		"no JSON":         {"POST", "/v1/users/bob/messages", "application/json", `{"private`, token, 400, "INVALID_FIELD"},
		"not executed":    {"PUT", "/v1/device", "application/json", `{"private`, token, 400, "INVALID_FIELD"},
		"bad parameter":   {"GET", "/v1/offline?limit=private", "", "", token, 400, "INVALID_FIELD"},
		"other parameter": {"GET", "/v1/offline?private=1", "", "", token, 400, "INVALID_FIELD"},
		"too large": {"POST", "/v1/users/bob/messages", "application/json",
			`{"private":"` + strings.Repeat("x", MaxRequestBytes) + `"}`, token, 429, "REQUEST_TOO_LARGE"},
		"no form":       {"POST", "/v1/users/bob/messages", "text/plain", body, token, 415, ""},
		"no such path":  {"GET", "/v1/private", "", "", token, 404, ""},
		"other method":  {"DELETE", "/v1/unread", "", "", token, 405, ""},
		"no such rpc":   {"POST", "/parley.v1.MessageService/Private", "application/json", "{}", token, 404, ""},
		"nothing there": {"GET", "/private", "", "", nil, 404, ""},
	} {
		t.Run(name, func(t *testing.T) {
			status, answer := do(t, c.method, url+c.path, c.contentType, c.body, c.header...)
			require.Equal(t, c.status, status, answer)
			require.True(t, strings.HasPrefix(answer, "{"), answer)
			require.NotContains(t, answer, "private")
			if c.reason != "" {
				require.Contains(t, answer, "ERROR_REASON_"+c.reason)
				require.Contains(t, answer, "type.googleapis.com/parley.v1.ErrorDetail")
			}
		})
	}
	require.False(t, registered, "a request that could not be read was executed")
}
