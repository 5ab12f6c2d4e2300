package rpc

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/jonboulle/clockwork"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/gen/parley/v1/parleyv1connect"
	"github.com/parley-im/parley/server/account"
	"github.com/parley-im/parley/server/auth"
	"github.com/parley-im/parley/server/device"
	"github.com/parley-im/parley/server/refusal"
	"github.com/parley-im/parley/server/relation"
	"github.com/parley-im/parley/server/session"
)

// people is the whole transport over the real services of relations, devices and users, whose stores are in memory.
// Tokens are "user/device".
type people struct {
	url   string
	clock *clockwork.FakeClock
	ended []string
	mem   *memory
}

func newPeople(t *testing.T, minter device.Minter, users ...string) *people {
	t.Helper()
	p := &people{clock: clockwork.NewFakeClockAt(time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)), mem: newMemory()}
	for _, u := range users {
		p.mem.users[u] = account.User{ID: u}
		p.mem.devices[session.Actor{UserID: u, DeviceID: "phone"}] = device.Device{ID: "phone"}
	}
	gate := device.NewGate(p.mem, p.clock)
	devices := device.NewService(p.mem, p, gate, p.clock)
	cfg := (&fakes{}).config(t)
	cfg.Verifier, cfg.Gate = slashVerifier{}, gate
	cfg.Services.Relation = &RelationServer{Relations: relation.NewService(relationMemory{p.mem}, p, p.clock)}
	cfg.Services.Device = &DeviceServer{Devices: devices}
	cfg.Services.Admin = &AdminServer{
		Accounts: account.NewService(p.mem, p, gate, p.clock), Tokens: device.NewTokens(devices, minter),
		Node: p, Epoch: p, StartedAt: p.clock.Now(), Version: "v1.2.3",
	}
	p.url = serve(t, cfg)
	return p
}

func (p *people) relations(token string) parleyv1connect.RelationServiceClient {
	return parleyv1connect.NewRelationServiceClient(http.DefaultClient, p.url, as(token))
}

func (p *people) devices(token string) parleyv1connect.DeviceServiceClient {
	return parleyv1connect.NewDeviceServiceClient(http.DefaultClient, p.url, as(token))
}

func (p *people) admin(opts ...connect.ClientOption) parleyv1connect.AdminServiceClient {
	opts = append(opts, as(strings.ReplaceAll(adminKey, " ", "-")))
	return parleyv1connect.NewAdminServiceClient(http.DefaultClient, p.url, opts...)
}

func (*people) NotifyUser(string, string, *parleyv1.Event) {}
func (*people) Streams() int64                             { return 3 }
func (*people) QueueBytes() int64                          { return 4 }
func (*people) MessagesSent() int64                        { return 5 }
func (*people) Current() string                            { return "epoch-1" }

func (p *people) EndDevice(userID, deviceID string, why refusal.Reason) {
	p.ended = append(p.ended, userID+"/"+deviceID+" "+string(why))
}

func (p *people) EndUser(userID string, why refusal.Reason) {
	p.ended = append(p.ended, userID+" "+string(why))
}

type slashVerifier struct{}

func (slashVerifier) Verify(_ context.Context, raw string) (auth.Principal, error) {
	user, dev, ok := strings.Cut(raw, "/")
	if !ok {
		return auth.Principal{}, refusal.New(refusal.TokenInvalid, "No.")
	}
	return auth.Principal{UserID: user, DeviceID: dev}, nil
}

// memory keeps users and devices; everything runs one after another.
type memory struct {
	mu      sync.Mutex
	users   map[string]account.User
	devices map[session.Actor]device.Device
	revoked map[session.Actor]bool
	marks   map[relation.Link]relation.Mark
}

func newMemory() *memory {
	return &memory{users: map[string]account.User{}, devices: map[session.Actor]device.Device{},
		revoked: map[session.Actor]bool{}, marks: map[relation.Link]relation.Mark{}}
}

func (m *memory) Upsert(_ context.Context, userID string, p account.Profile, now time.Time) (account.User, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.users[userID] = account.User{ID: userID, Profile: p, CreatedAt: now}
	return m.users[userID], nil
}

func (m *memory) Deactivate(_ context.Context, userID string, now time.Time) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	u, ok := m.users[userID]
	if u.DeactivatedAt = &now; ok {
		m.users[userID] = u
	}
	return ok, nil
}

func (m *memory) Estimates(context.Context) (account.Estimates, error) {
	return account.Estimates{Users: 10, Sessions: 20, Messages: 30}, nil
}

func (m *memory) standing(who session.Actor) device.Standing {
	d, known := m.devices[who]
	st := device.Standing{Deactivated: m.users[who.UserID].DeactivatedAt != nil, Known: known, Revoked: m.revoked[who], Device: d}
	for other := range m.devices {
		if other.UserID == who.UserID && !m.revoked[other] {
			st.Live++
		}
	}
	return st
}

func (m *memory) Register(_ context.Context, userID, deviceID string, now time.Time,
	rule func(device.Standing) (device.Device, error),
) (device.Device, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	who := session.Actor{UserID: userID, DeviceID: deviceID}
	d, err := rule(m.standing(who))
	if err != nil {
		return d, err
	}
	if _, ok := m.users[userID]; !ok {
		m.users[userID] = account.User{ID: userID, CreatedAt: now}
	}
	m.devices[who] = d
	return d, nil
}

func (m *memory) List(_ context.Context, userID string) ([]device.Device, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []device.Device
	for who, d := range m.devices {
		if who.UserID == userID && !m.revoked[who] {
			out = append(out, d)
		}
	}
	slices.SortFunc(out, func(a, b device.Device) int { return cmp.Compare(a.ID, b.ID) })
	return out, nil
}

func (m *memory) Revoke(_ context.Context, userID, deviceID string, _ time.Time) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	who := session.Actor{UserID: userID, DeviceID: deviceID}
	_, ok := m.devices[who]
	m.revoked[who] = ok
	return ok, nil
}

func (m *memory) ListRefused(context.Context, []string, []string) ([]device.Refused, error) {
	return nil, nil
}

func (m *memory) Access(_ context.Context, userID, deviceID string) (device.Access, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	st := m.standing(session.Actor{UserID: userID, DeviceID: deviceID})
	return device.Access{Deactivated: st.Deactivated, Known: st.Known, Revoked: st.Revoked}, nil
}

// relationMemory is memory as relation.Store.
type relationMemory struct{ *memory }

func (m relationMemory) Change(ctx context.Context, userID, peerID string, fn func(context.Context, relation.Ledger) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return fn(ctx, pairMemory{m.memory, relation.Link{UserID: userID, PeerID: peerID}})
}

func (m relationMemory) List(_ context.Context, userID string, kind relation.Kind, after string, limit int) ([]relation.Relation, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []relation.Relation
	for _, peer := range slices.Sorted(maps.Keys(m.users)) {
		k := pairMemory{m.memory, relation.Link{UserID: userID, PeerID: peer}}.pair().Kind()
		if peer > after && k != relation.None && (kind == relation.None || kind == k) && len(out) < limit {
			out = append(out, relation.Relation{UserID: peer, Kind: k, UpdatedAt: time.Unix(1, 0)})
		}
	}
	return out, nil
}

func (m relationMemory) Views(context.Context, []relation.Link) ([]relation.Relation, error) {
	return nil, nil
}

// pairMemory is one pair of users as relation.Ledger, under the lock.
type pairMemory struct {
	*memory
	relation.Link
}

func (m pairMemory) pair() relation.Pair {
	return relation.Pair{Own: m.marks[m.Link], Other: m.marks[relation.Link{UserID: m.PeerID, PeerID: m.UserID}]}
}

func (m pairMemory) Standing() (relation.Standing, time.Time) {
	peer, known := m.users[m.PeerID]
	return relation.Standing{Pair: m.pair(), CallerKnown: true, CallerActive: true, PeerKnown: known,
		PeerActive: known && peer.DeactivatedAt == nil}, time.Unix(1, 0)
}

func (m pairMemory) Count(context.Context, ...relation.Mark) (int64, error) { return 0, nil }

func (m pairMemory) Save(_ context.Context, _, after relation.Pair, _ time.Time) error {
	m.marks[m.Link], m.marks[relation.Link{UserID: m.PeerID, PeerID: m.UserID}] = after.Own, after.Other
	return nil
}
