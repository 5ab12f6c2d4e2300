package main

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// A healthy node's map is what PostgreSQL has; a row changed behind the feed's back is found.
func TestDoctor(t *testing.T) {
	n := newNode(t)
	n.serve(t)
	alice := n.user(t, "alice")
	n.user(t, "bob")
	n.call(t, alice, "MessageService/SendMessage", `{"peerUserId":"bob","messageId":"01890000-0000-7000-8000-000000000001",
		"content":{"text":{"body":"hi"}}}`, "seq")

	env := append([]string{"PARLEY_ADMIN_URL=http://" + n.ops}, n.env[0])
	// doctor asks again where the node's map was not fresh whenever it looked, as on a busy machine.
	doctor := func() (out string, err error) {
		for end := time.Now().Add(patience); ; {
			out, err = once(t, env, "doctor")
			if err == nil || !strings.Contains(out, "try again") || time.Now().After(end) {
				return out, err
			}
		}
	}
	out, err := doctor()
	require.NoError(t, err, out)
	require.Equal(t, 8, strings.Count(out, "equal"), out)
	require.Contains(t, out, "map of the node")

	url := strings.TrimPrefix(n.env[0], "PARLEY_POSTGRES_URL=")
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer conn.Close(t.Context())                                             //nolint:errcheck // the test is over
	_, err = conn.Exec(t.Context(), `SET session_replication_role = replica`) // no triggers, so nothing is told
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), `UPDATE user_to_session SET left_seq = 1 WHERE user_id = 'bob'`)
	require.NoError(t, err)
	out, err = doctor()
	require.Error(t, err)
	require.Equal(t, 1, strings.Count(out, "DIFFERS"), out)
	require.Contains(t, out, "user_to_session  DIFFERS  map: 2 rows")

	_, err = once(t, n.env[:1], "doctor", "--admin-url", "http://"+freeAddr(t))
	require.Error(t, err, "no node is there")
	out, err = once(t, n.env[:1], "doctor", "--admin-url", "")
	require.NoError(t, err, out)
}
