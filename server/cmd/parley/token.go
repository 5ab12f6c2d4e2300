package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/gen/parley/v1/parleyv1connect"
	"github.com/parley-im/parley/server/app"
)

// remote says which server a command talks to, and with which admin key.
type remote struct {
	server, adminKey, dataDir string
}

func (r *remote) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&r.server, "server", "http://127.0.0.1:8080", "the server's address")
	f.StringVar(&r.adminKey, "admin-key", "", "admin key (prefer PARLEY_ADMIN_KEY); empty: the one that 'parley run' keeps in the data dir")
	f.StringVar(&r.dataDir, "data-dir", ".data", "data dir of 'parley run'")
}

func (r *remote) key() (string, error) {
	if r.adminKey != "" {
		return r.adminKey, nil
	}
	path := filepath.Join(r.dataDir, "admin.key")
	b, err := os.ReadFile(path) //nolint:gosec // the path is the operator's
	if err != nil {
		return "", fmt.Errorf("no admin key: set PARLEY_ADMIN_KEY, or run where `parley run` keeps its data (%s is not readable)", path)
	}
	return strings.TrimSpace(string(b)), nil
}

func tokenCommand() *cobra.Command {
	var r remote
	var user, device string
	var ttl time.Duration
	cmd := &cobra.Command{
		Use:   "token --user USER --device DEVICE",
		Short: "Mint a token for a device, making user and device if they are new",
		Long: `Asks a running server to mint a token (AdminService.CreateToken) and prints it. The server must hold a signing key
(PARLEY_SIGNING_KEY; parley run makes one).`,
		Example: `  export ALICE=$(parley token --user alice --device phone)`,
		Args:    cobra.NoArgs,
	}
	r.flags(cmd)
	cmd.Flags().StringVar(&user, "user", "", "the user's id")
	cmd.Flags().StringVar(&device, "device", "", "the device's id")
	cmd.Flags().DurationVar(&ttl, "ttl", 24*time.Hour, "how long the token holds, 1 minute to 30 days")
	_ = cmd.MarkFlagRequired("user")
	_ = cmd.MarkFlagRequired("device")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := app.FromEnv(cmd.Flags()); err != nil {
			return err
		}
		key, err := r.key()
		if err != nil {
			return err
		}
		token, err := mint(cmd.Context(), r.server, key, user, device, ttl)
		if err != nil {
			return err
		}
		fmt.Fprintln(cmd.OutOrStdout(), token)
		return nil
	}
	return cmd
}

// mint asks a server for a token.
func mint(ctx context.Context, server, adminKey, user, device string, ttl time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	admin := parleyv1connect.NewAdminServiceClient(http.DefaultClient, server, connect.WithInterceptors(bearer(adminKey)))
	res, err := admin.CreateToken(ctx, &parleyv1.CreateTokenRequest{UserId: user, DeviceId: device, Ttl: durationpb.New(ttl)})
	if err != nil {
		return "", explain(err)
	}
	return res.GetToken(), nil
}

// explain adds the reason to an error of the server.
func explain(err error) error {
	var ce *connect.Error
	if !errors.As(err, &ce) {
		return err
	}
	for _, d := range ce.Details() {
		if v, derr := d.Value(); derr == nil {
			if detail, ok := v.(*parleyv1.ErrorDetail); ok {
				return fmt.Errorf("%s (%s)", ce.Message(), strings.TrimPrefix(detail.GetReason().String(), "ERROR_REASON_"))
			}
		}
	}
	return err
}

// bearer puts a token on every call, streams included.
type bearer string

func (b bearer) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		req.Header().Set("Authorization", "Bearer "+string(b))
		return next(ctx, req)
	}
}

func (b bearer) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		conn := next(ctx, spec)
		conn.RequestHeader().Set("Authorization", "Bearer "+string(b))
		return conn
	}
}

func (b bearer) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}
