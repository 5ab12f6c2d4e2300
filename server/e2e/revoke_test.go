package e2e

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/dev/testenv"
	"github.com/parley-im/parley/server/e2e/rig"
)

// issuer is an app's own issuer of tokens, with a key by name.
type issuer struct {
	t    *testing.T
	keys map[string]ed25519.PrivateKey
	path string // of its key set
}

// newIssuer makes an issuer with the keys "one" and "two".
func newIssuer(t *testing.T) issuer {
	i := issuer{t, map[string]ed25519.PrivateKey{}, filepath.Join(t.TempDir(), "keys.json")}
	for _, kid := range []string{"one", "two"} {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		require.NoError(t, err)
		i.keys[kid] = key
	}
	i.publish("one", "two")
	return i
}

// publish replaces the key set by one that has the keys of these names.
func (i issuer) publish(kids ...string) {
	var keys []string
	for _, kid := range kids {
		public, ok := i.keys[kid].Public().(ed25519.PublicKey)
		require.True(i.t, ok)
		keys = append(keys, fmt.Sprintf(`{"kty":"OKP","crv":"Ed25519","alg":"EdDSA","use":"sig","kid":%q,"x":%q}`, kid,
			base64.RawURLEncoding.EncodeToString(public)))
	}
	require.NoError(i.t, os.WriteFile(i.path+".new", []byte(`{"keys":[`+strings.Join(keys, ",")+`]}`), 0o600))
	require.NoError(i.t, os.Rename(i.path+".new", i.path))
}

// token mints a token of the key "one" for a device that ends at a time; JWTs count whole seconds.
func (i issuer) token(user, device string, expires time.Time) string {
	return i.tokenOf("one", user, device, expires)
}

func (i issuer) tokenOf(kid, user, device string, expires time.Time) string {
	part := func(v any) string {
		raw, err := json.Marshal(v)
		require.NoError(i.t, err)
		return base64.RawURLEncoding.EncodeToString(raw)
	}
	signed := part(map[string]string{"alg": "EdDSA", "kid": kid, "typ": "JWT"}) + "." + part(map[string]any{"iss": "app", "aud": "parley",
		"sub": user, "did": device, "iat": time.Now().Unix(), "exp": expires.Unix()})
	return signed + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(i.keys[kid], []byte(signed)))
}

// redisForms are the ways in which nodes may be joined while something has to end streams on all of them.
func redisForms(t *testing.T) map[string]func(t *testing.T) (env []string, before func()) {
	t.Helper()
	return map[string]func(t *testing.T) ([]string, func()){
		"Redis up": func(*testing.T) ([]string, func()) { return nil, func() {} },
		"no Redis": func(*testing.T) ([]string, func()) { return []string{"PARLEY_REDIS_URL="}, func() {} },
		// Muted a moment before: the nodes believe that they hear each other.
		"Redis muted": func(t *testing.T) ([]string, func()) {
			link, url := testenv.NewLinkTo(t, testenv.OwnRedis(t, nil).TCPURL())
			return []string{"PARLEY_REDIS_URL=" + url}, link.Mute
		},
	}
}

// A10: a device that is revoked, a user that is deactivated, a token that ends and one whose key is withdrawn have no frame
// 2 s later, on any node.
func TestRevocationEndsStreamsOnAllNodes(t *testing.T) {
	for name, form := range redisForms(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			var ends []time.Duration
			report(t, "A10", "device revoked, user deactivated, token ended, key withdrawn, on two nodes, "+name, "no frame after 2 s on any node",
				func() string { return "last frame or end " + spread(ends) })
			env, before := form(t)
			app := newIssuer(t)
			nodes := startNodes(t, 2, append(env, "PARLEY_JWKS_FILE="+app.path, "PARLEY_TOKEN_ISSUER=app")...)
			if env == nil {
				waitPeers(t, nodes)
			}
			sender := nodes[0].Client("sender", "d")
			users := []string{"revoked", "deactivated", "withdrawn", "expired"} // the last ones have little time
			var expires time.Time
			for _, u := range users {
				nodes[0].Token(u, "d0")
				nodes[0].Token(u, "d1")
			}
			id := sender.Group(t.Context(), users...)
			devices := map[string][]*rig.Device{}
			for _, u := range users {
				for n, s := range nodes {
					dev := fmt.Sprintf("d%d", n)
					token := ""
					switch u {
					case "expired": // below
						continue
					case "withdrawn":
						token = app.tokenOf("two", u, dev, time.Now().Add(time.Hour))
					}
					d := s.NewDeviceWith(u, dev, token)
					d.Connect()
					d.WaitCaughtUp(1)
					devices[u] = append(devices[u], d)
				}
			}
			// Time enough to catch up before the tokens end, which a busy machine needs more of.
			for lives := 6 * time.Second; len(devices["expired"]) < len(nodes); lives *= 2 {
				require.Less(t, lives, patience, "no device caught up before its token ended")
				expires, devices["expired"] = time.Now().Add(lives).Truncate(time.Second), nil
				for n, s := range nodes {
					dev := fmt.Sprintf("d%d", n)
					d := s.NewDeviceWith("expired", dev, app.token("expired", dev, expires))
					d.Connect()
					require.Eventually(t, func() bool { return d.CaughtUps() > 0 || !d.Live() }, patience, 20*time.Millisecond)
					if d.CaughtUps() > 0 && time.Now().Before(expires) {
						devices["expired"] = append(devices["expired"], d)
					}
				}
			}
			hindered := watchLag(t, nodes[0].PostgresURL, nodes...)
			ctx, cancel := context.WithCancel(t.Context())
			var busy sync.WaitGroup
			defer func() { cancel(); busy.Wait() }()
			busy.Go(func() { // so that there is always something to deliver
				for ctx.Err() == nil {
					_, _ = sender.Messages.SendMessage(ctx, rig.To(id, "x"))
					time.Sleep(10 * time.Millisecond)
				}
			})
			before()
			at := map[string]time.Time{"expired": expires}
			for n := range nodes {
				_, err := devices["revoked"][0].Devices.RevokeDevice(t.Context(), &parleyv1.RevokeDeviceRequest{DeviceId: fmt.Sprintf("d%d", 1-n)})
				require.NoError(t, err)
			}
			at["revoked"] = time.Now()
			_, err := nodes[0].Admin().DeactivateUser(t.Context(), &parleyv1.DeactivateUserRequest{UserId: "deactivated"})
			require.NoError(t, err)
			at["deactivated"] = time.Now()
			app.publish("one")
			at["withdrawn"] = time.Now()
			for u, own := range devices {
				for _, d := range own {
					require.Equal(t, connect.CodeUnauthenticated, connect.CodeOf(d.Ended()), "%s/%s: %v", u, d.Device, d.Ended())
					took := d.LastFrame().Sub(at[u])
					mu.Lock()
					ends = append(ends, max(0, took))
					mu.Unlock()
					require.Less(t, took, prompt(2*time.Second, hindered, at[u]), "%s/%s", u, d.Device)
				}
			}
		})
	}
}

// A newer stream of a device on another node ends the older one within 2 s, whatever joins the nodes.
func TestNewerStreamOnAnotherNodeDisplaces(t *testing.T) {
	for name, form := range redisForms(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var ends []time.Duration
			report(t, "A10", "newer stream of the same device on another node, "+name, "the older one ends within 2 s, the newer one stays",
				func() string { return "older one ended after " + spread(ends) })
			env, before := form(t)
			nodes := startNodes(t, 2, env...)
			if env == nil {
				waitPeers(t, nodes)
			}
			nodes[0].Token("alice", "phone")
			if strings.Contains(name, "muted") {
				waitPeers(t, nodes)
			}
			stream := nodes[0].Online("alice", "phone")
			time.Sleep(300 * time.Millisecond) // its own start is told by then
			before()
			hindered := watchLag(t, nodes[0].PostgresURL, nodes...)
			for n := range size(2, 4, 10) {
				newer := nodes[(n+1)%2].Online("alice", "phone")
				began := time.Now()
				require.Equal(t, connect.CodeFailedPrecondition, connect.CodeOf(stream.Ended()))
				require.Equal(t, "STREAM_DISPLACED", reason(stream.Ended()))
				took := time.Since(began)
				ends = append(ends, took)
				require.Less(t, took, prompt(2*time.Second, hindered, began))
				stream = newer
			}
			// The newest one stays.
			peer := nodes[0].Client("bob", "d")
			sent := peer.Send(t.Context(), "alice", "still here?")
			time.Sleep(size(100*time.Millisecond, time.Second, 3*time.Second))
			again := peer.Send(t.Context(), "alice", "and now?")
			stream.WaitSeq(sent.GetSessionId(), again.GetSeq())
			requireNoProblems(t, stream)
		})
	}
}

// Devices that open streams on all nodes at the same time keep exactly one.
func TestStreamsThatOpenAtOnceLeaveOne(t *testing.T) {
	nodes := startNodes(t, 2)
	waitPeers(t, nodes)
	nodes[0].Token("alice", "phone")
	for range size(2, 4, scaledTimes(50)) {
		var all []*rig.Device
		for n := range 6 {
			all = append(all, nodes[n%2].NewDevice("alice", "phone"))
		}
		for _, d := range all {
			d.Connect()
		}
		live := func() (n int) {
			for _, d := range all {
				if d.Live() {
					n++
				}
			}
			return n
		}
		for end := time.Now().Add(patience); live() != 1; time.Sleep(10 * time.Millisecond) {
			require.True(t, time.Now().Before(end), "%d streams are left", live())
		}
		time.Sleep(20 * time.Millisecond)
		require.Equal(t, 1, live(), "the last one is gone too")
		for _, d := range all {
			d.Offline()
		}
	}
}
