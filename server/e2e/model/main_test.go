package model

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/gen/parley/v1/parleyv1connect"
	"github.com/parley-im/parley/server/app"
	"github.com/parley-im/parley/server/dev/testenv"
	"github.com/parley-im/parley/server/e2e/rig"
)

// How much an ordinary run does; -short divides the checks by rapid's five.
const (
	defaultChecks = 30
	defaultSteps  = 40
)

func TestMain(m *testing.M) {
	flag.Parse()
	given := map[string]bool{}
	flag.Visit(func(f *flag.Flag) { given[f.Name] = true })
	for name, value := range map[string]string{
		"rapid.checks":     cmp.Or(os.Getenv("PARLEY_MODEL_CHECKS"), strconv.Itoa(defaultChecks)),
		"rapid.steps":      cmp.Or(os.Getenv("PARLEY_MODEL_STEPS"), strconv.Itoa(defaultSteps)),
		"rapid.nofailfile": "true", // the seed is printed, and a file would be left in the source tree
	} {
		if given[name] {
			continue
		}
		if err := flag.Set(name, value); err != nil {
			panic(err)
		}
	}
	testenv.Main(m)
}

// node is a whole server in this process, spoken to over HTTP.
type node struct {
	url  string
	http *http.Transport
}

const adminKey = "a-key-for-tests-of-no-use-anywhere-else" //nolint:gosec // not a secret

// run starts a node on a database of its own and takes it down after the test.
func run(t *testing.T) *node {
	t.Helper()
	cfg := app.Default()
	cfg.Listen, cfg.AdminListen, cfg.DrainGrace = "127.0.0.1:0", "", 0
	cfg.Postgres.URL = testenv.PostgresURL(t)
	cfg.Auth.AdminKey, cfg.Auth.SigningKey = adminKey, filepath.Join(t.TempDir(), "signing.pem")
	cfg.Stream.RoamBacklog = roamBacklog
	cfg.UnaryTimeout, cfg.DrainTimeout = 2*patience, 2*patience // a busy machine may need them
	level := slog.LevelError + 1                                // refused and interrupted calls are what the test is made of
	if testing.Verbose() {
		level = slog.LevelError
	}
	a, err := app.New(t.Context(), cfg, slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})))
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background()) //nolint:usetesting // outlives the test's own, for the clean-ups
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	n := &node{url: "http://" + a.Addr(), http: &http.Transport{MaxIdleConnsPerHost: 64}}
	t.Cleanup(func() {
		n.http.CloseIdleConnections()
		stop()
		require.NoError(t, <-ended)
	})
	return n
}

// bearer puts a token on every request.
type bearer struct {
	token string
	next  http.RoundTripper
}

func (b bearer) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Header.Set("Authorization", "Bearer "+b.token)
	return b.next.RoundTrip(req)
}

// api is the server as one device calls it.
type api struct {
	parleyv1connect.RelationServiceClient
	parleyv1connect.SessionServiceClient
	parleyv1connect.MessageServiceClient
	parleyv1connect.StateServiceClient
	parleyv1connect.SyncServiceClient
}

// token makes user and device if they are new.
func (n *node) token(ctx context.Context, user, device string) (string, error) {
	c := parleyv1connect.NewAdminServiceClient(&http.Client{Transport: bearer{adminKey, n.http}}, n.url)
	res, err := c.CreateToken(ctx, &parleyv1.CreateTokenRequest{UserId: user, DeviceId: device})
	return res.GetToken(), err
}

func (n *node) api(token string) api {
	h, again := &http.Client{Transport: bearer{token, n.http}}, connect.WithInterceptors(rig.Again())
	return api{
		parleyv1connect.NewRelationServiceClient(h, n.url, again), parleyv1connect.NewSessionServiceClient(h, n.url, again),
		parleyv1connect.NewMessageServiceClient(h, n.url, again), parleyv1connect.NewStateServiceClient(h, n.url, again),
		parleyv1connect.NewSyncServiceClient(h, n.url, again),
	}
}

// reason is why a call was refused, with the code that it came under; 0 and 0 for one that was not.
func reason(err error) (parleyv1.ErrorReason, connect.Code) {
	var ce *connect.Error
	if !errors.As(err, &ce) {
		return none, 0
	}
	for _, d := range ce.Details() {
		if v, err := d.Value(); err == nil {
			if detail, ok := v.(*parleyv1.ErrorDetail); ok {
				return detail.GetReason(), ce.Code()
			}
		}
	}
	return none, ce.Code()
}

// patience bounds every wait: long, since it only ends what would never come.
const patience = 3 * time.Minute

// codes are those that error_reason.proto names.
var codes = map[parleyv1.ErrorReason]connect.Code{
	parleyv1.ErrorReason_ERROR_REASON_SESSION_UNAVAILABLE:      connect.CodePermissionDenied,
	parleyv1.ErrorReason_ERROR_REASON_MESSAGE_UNAVAILABLE:      connect.CodeNotFound,
	parleyv1.ErrorReason_ERROR_REASON_RECIPIENT_UNAVAILABLE:    connect.CodePermissionDenied,
	parleyv1.ErrorReason_ERROR_REASON_RECIPIENT_BLOCKED_BY_YOU: connect.CodePermissionDenied,
	parleyv1.ErrorReason_ERROR_REASON_USER_UNAVAILABLE:         connect.CodeNotFound,
	parleyv1.ErrorReason_ERROR_REASON_SELF_TARGET:              connect.CodeInvalidArgument,
	parleyv1.ErrorReason_ERROR_REASON_ROLE_TOO_LOW:             connect.CodePermissionDenied,
	parleyv1.ErrorReason_ERROR_REASON_MUTED:                    connect.CodePermissionDenied,
	parleyv1.ErrorReason_ERROR_REASON_LAST_OWNER:               connect.CodeFailedPrecondition,
	parleyv1.ErrorReason_ERROR_REASON_DIRECT_SESSION:           connect.CodeFailedPrecondition,
	parleyv1.ErrorReason_ERROR_REASON_MESSAGE_ID_REUSED:        connect.CodeAlreadyExists,
	parleyv1.ErrorReason_ERROR_REASON_NOT_RECALLABLE:           connect.CodePermissionDenied,
	parleyv1.ErrorReason_ERROR_REASON_CURSOR_BEYOND_HEAD:       connect.CodeOutOfRange,
	parleyv1.ErrorReason_ERROR_REASON_CURSOR_INVISIBLE:         connect.CodeOutOfRange,
}
