package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"golang.org/x/term"
	"google.golang.org/protobuf/types/known/durationpb"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/gen/parley/v1/parleyv1connect"
	"github.com/parley-im/parley/server/app"
	"github.com/parley-im/parley/server/auth"
	"github.com/parley-im/parley/server/cmd/parley/chat"
)

// chatOptions are the flags of chat.
type chatOptions struct {
	remote
	as, with, session, token, device string
	history                          int
}

func chatCommand() *cobra.Command {
	var o chatOptions
	cmd := &cobra.Command{
		Use:   "chat --as USER --with USER",
		Short: "Chat in the terminal",
		Long: `Opens a conversation in the terminal: with another user (--with), or in a group (--session). It shows what was said
last, what is said now, who is typing and who has read your messages, and it survives restarts of the server: what you
enter meanwhile is sent when it is back, once.

It needs a token: give one (--token, or better PARLEY_TOKEN), or let it mint one with the admin key (PARLEY_ADMIN_KEY, or
the one that parley run keeps in its data dir). A user comes into being when a token is minted, so both users of a
conversation must have had one: chatting with a user makes none.

Where standard input or output is no terminal, each line of input is said (or is a command), each message is a line of
output (alice: hi), and everything else goes to standard error. The program ends when the input has ended and everything
is sent:
  echo "the backup is done" | parley chat --as backup-bot --with alice

` + "Commands:\n  " + strings.ReplaceAll(chat.Help, "\n", "\n  "),
		Example: `  parley chat --as alice --with bob
  PARLEY_TOKEN=... parley chat --with bob --server https://chat.example
  parley chat --as alice --session 0190a5d2-7c55-7b3e-9d3c-0f4b1d2c3e4f`,
		Args: cobra.NoArgs,
	}
	o.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&o.as, "as", "", "who you are; may be left out with a token")
	f.StringVar(&o.with, "with", "", "whom to chat with")
	f.StringVar(&o.session, "session", "", "id of the session to chat in, instead of --with")
	f.StringVar(&o.token, "token", "", "token to sign in with (prefer PARLEY_TOKEN)")
	f.StringVar(&o.device, "device", "", "device id for a minted token, terminal-USER if empty; each open chat of a user needs its own")
	f.IntVar(&o.history, "history", 20, "how many earlier messages to show, at most 500")
	cmd.MarkFlagsMutuallyExclusive("with", "session")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := app.FromEnv(cmd.Flags()); err != nil {
			return err
		}
		cfg, err := o.config()
		if err != nil {
			return err
		}
		return runChat(cmd, cfg)
	}
	return cmd
}

// config checks the flags.
func (o *chatOptions) config() (chat.Config, error) {
	cfg := chat.Config{Server: strings.TrimSuffix(o.server, "/"), User: o.as, Peer: o.with, History: o.history}
	if !strings.HasPrefix(cfg.Server, "http://") && !strings.HasPrefix(cfg.Server, "https://") {
		return cfg, fmt.Errorf("--server %s must begin with http:// or https://", o.server)
	}
	if o.history < 1 || o.history > 500 {
		return cfg, fmt.Errorf("--history %d is not 1 to 500", o.history)
	}
	switch {
	case o.with == "" && o.session == "":
		return cfg, errors.New("whom to chat with? say --with USER or --session ID")
	case o.session != "":
		id, err := uuid.Parse(o.session)
		if err != nil {
			return cfg, fmt.Errorf("--session %s is no UUID", o.session)
		}
		cfg.SessionID = id
	}
	if err := o.identify(&cfg); err != nil {
		return cfg, err
	}
	if cfg.User == o.with {
		return cfg, errors.New("a conversation needs two: --with names yourself")
	}
	return cfg, nil
}

// identify sets who chats, by a given token or by one to mint.
func (o *chatOptions) identify(cfg *chat.Config) error {
	if o.token != "" {
		user, err := subject(o.token)
		if err != nil {
			return err
		}
		if o.as != "" && o.as != user {
			return fmt.Errorf("the token is for %s, not for %s", user, o.as)
		}
		cfg.User, cfg.Token = user, given(o.token)
		return nil
	}
	if o.as == "" {
		return errors.New("who are you? say --as USER, or give a token")
	}
	key, err := o.key()
	if err != nil {
		return err
	}
	cfg.Token = o.minter(cfg.Server, key)
	return nil
}

// given returns a token that is there, once: there is no other when it has expired.
func given(token string) func(context.Context) (string, error) {
	var taken atomic.Bool
	return func(context.Context) (string, error) {
		if taken.Swap(true) {
			return "", errors.New("the token has expired; start again with a new one")
		}
		return token, nil
	}
}

// minter mints tokens with the admin key. Errors of the server stay as they are, so that the chat can tell whether to try
// again.
func (o *chatOptions) minter(server, key string) func(context.Context) (string, error) {
	admin := parleyv1connect.NewAdminServiceClient(http.DefaultClient, server, connect.WithInterceptors(bearer(key)))
	device := o.device
	if device == "" {
		device = defaultDevice(o.as)
	}
	return func(ctx context.Context) (string, error) {
		res, err := admin.CreateToken(ctx, &parleyv1.CreateTokenRequest{UserId: o.as, DeviceId: device,
			Ttl: durationpb.New(chatTokenTTL), Platform: parleyv1.DevicePlatform_DEVICE_PLATFORM_DESKTOP})
		return res.GetToken(), err
	}
}

// chatTokenTTL is how long a minted token holds; the chat mints the next one by itself.
const chatTokenTTL = 24 * time.Hour

func defaultDevice(user string) string {
	if device := "terminal-" + user; len(device) <= auth.MaxIDBytes {
		return device
	}
	return "terminal"
}

// subject returns whose token it is. The server verifies it; here it only says which messages are own ones.
func subject(token string) (string, error) {
	var claims struct {
		Subject string `json:"sub"`
	}
	if parts := strings.Split(token, "."); len(parts) == 3 {
		if raw, err := base64.RawURLEncoding.DecodeString(parts[1]); err == nil && json.Unmarshal(raw, &claims) == nil &&
			claims.Subject != "" {
			return claims.Subject, nil
		}
	}
	return "", errors.New("this is no token: it should be a JWT with a sub")
}

// runChat chats in the terminal, or over lines where there is none.
func runChat(cmd *cobra.Command, cfg chat.Config) error {
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	in, out := os.Stdin, os.Stdout
	if !term.IsTerminal(int(in.Fd())) || !term.IsTerminal(int(out.Fd())) {
		cfg.Scripted = true
		return chat.New(cfg, chat.NewPlain(ctx, in, out, os.Stderr)).Run(ctx)
	}
	ui, restore, err := chat.NewTerminal(ctx, in, out)
	if err != nil {
		return err
	}
	defer restore()
	return chat.New(cfg, ui).Run(ctx)
}
