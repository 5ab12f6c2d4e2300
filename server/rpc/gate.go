package rpc

import (
	"context"
	"net/http"
	"time"

	"connectrpc.com/connect"

	"github.com/parley-im/parley/server/auth"
	"github.com/parley-im/parley/server/refusal"
)

// Verifier verifies bearer tokens.
type Verifier interface {
	// Verify returns whom the token stands for, or a refusal: TokenMissing for an empty one. Safe for concurrent use.
	Verify(ctx context.Context, raw string) (auth.Principal, error)
}

// APIKey checks the key of the app's own server.
type APIKey interface {
	// Check returns nil for the right key, else a refusal; it takes the same time for all wrong ones. Safe for concurrent
	// use.
	Check(key string) error
}

// Gate keeps out devices that were revoked or never registered, and deactivated users.
type Gate interface {
	// Check returns nil or a refusal. Safe for concurrent use.
	Check(ctx context.Context, userID, deviceID string) error
}

// gate decides who may call what. It runs before the message is read.
type gate struct {
	table    map[string]access
	verifier Verifier
	key      APIKey
	devices  Gate
	timeout  time.Duration
}

var (
	errHeader     = refusal.New(refusal.TokenInvalid, "There is more than one Authorization header.")
	errUserHere   = refusal.New(refusal.NotAllowed, "This rpc is for the app's own server, with the admin key.")
	errServerHere = refusal.New(refusal.NotAllowed, "This rpc is for users; the admin key cannot call it.")
	errNowhere    = refusal.New(refusal.NotAllowed, "Nobody may call this rpc.")
)

// admit is the gate of connect's handlers.
func (g *gate) admit(ctx context.Context, spec connect.Spec, _ connect.Peer, header http.Header) (context.Context, error) {
	c := callFrom(ctx)
	c.procedure, c.stream = spec.Procedure, spec.StreamType != connect.StreamTypeUnary
	p, err := g.check(ctx, spec.Procedure, header)
	if err != nil {
		return nil, asWire(ctx, err)
	}
	c.principal = p
	return WithPrincipal(ctx, p), nil
}

// check returns who is calling the procedure, the zero Principal where no user does.
func (g *gate) check(ctx context.Context, procedure string, header http.Header) (auth.Principal, error) {
	ctx, cancel := context.WithTimeout(ctx, g.timeout)
	defer cancel()
	return g.judge(ctx, procedure, header)
}

// judge is check without a bound in time of its own.
func (g *gate) judge(ctx context.Context, procedure string, header http.Header) (auth.Principal, error) {
	switch g.table[procedure] {
	case anybody:
		return auth.Principal{}, nil
	case user:
		p, err := g.token(ctx, header)
		if err != nil {
			return auth.Principal{}, err
		}
		return p, g.devices.Check(ctx, p.UserID, p.DeviceID)
	case newDevice:
		return g.token(ctx, header)
	case admin:
		return auth.Principal{}, g.adminKey(ctx, header)
	default:
		return auth.Principal{}, errNowhere
	}
}

func (g *gate) token(ctx context.Context, header http.Header) (auth.Principal, error) {
	raw, err := bearer(header)
	if err != nil {
		return auth.Principal{}, err
	}
	p, err := g.verifier.Verify(ctx, raw)
	if err == nil {
		return p, nil
	}
	if reason, _ := refusal.Of(err); reason == refusal.TokenInvalid && g.key.Check(raw) == nil {
		return auth.Principal{}, errServerHere
	}
	return p, err
}

func (g *gate) adminKey(ctx context.Context, header http.Header) error {
	raw, err := bearer(header)
	if err != nil {
		return err
	}
	wrong := g.key.Check(raw)
	if wrong == nil {
		return nil
	}
	if _, err := g.verifier.Verify(ctx, raw); err == nil {
		return errUserHere
	}
	return wrong
}

// bearer returns the token of the Authorization header, empty when there is none. Two headers are refused rather than
// guessed at.
func bearer(header http.Header) (string, error) {
	if len(header.Values("Authorization")) > 1 {
		return "", errHeader
	}
	return auth.Bearer(header.Get("Authorization")), nil
}
