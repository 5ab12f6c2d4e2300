package roster

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strconv"

	"github.com/parley-im/parley/server/feed"
)

// Sum stands for the rows of one table, in whatever order they are.
type Sum struct {
	Rows int64 `json:"rows"`
	// Hash is the sum, modulo 2^64, of the rows' hashes, each the first 8 bytes of SHA-256 (big-endian) over: every id
	// after its length in bytes and a colon, then the traits in decimal. A session's id is in its text form.
	Hash uint64 `json:"hash,string"`
}

// Sums stand for all relations. Those of the map and of PostgreSQL are equal when both have the same rows.
type Sums struct {
	Users       Sum `json:"app_user"`
	Relations   Sum `json:"user_to_user"`
	Devices     Sum `json:"user_to_device"`
	Memberships Sum `json:"user_to_session"`
}

// Of returns the sum of a kind; nil for one that is none.
func (s *Sums) Of(kind feed.RelationKind) *Sum {
	switch kind {
	case feed.User:
		return &s.Users
	case feed.UserToUser:
		return &s.Relations
	case feed.UserToDevice:
		return &s.Devices
	case feed.UserToSession:
		return &s.Memberships
	default:
		return nil
	}
}

// hasher adds rows up. It keeps its buffer.
type hasher struct{ buf []byte }

func (h *hasher) add(to *Sum, traits uint8, ids ...[]byte) {
	h.buf = h.buf[:0]
	for _, id := range ids {
		h.buf = append(strconv.AppendInt(h.buf, int64(len(id)), 10), ':')
		h.buf = append(h.buf, id...)
	}
	h.buf = strconv.AppendUint(h.buf, uint64(traits), 10)
	digest := sha256.Sum256(h.buf)
	to.Rows++
	to.Hash += binary.BigEndian.Uint64(digest[:8])
}

// Checksum returns the sums of the map and of PostgreSQL, the latter of one snapshot. They are comparable when nothing
// was changing: neither is the map held still while it is added up, nor is it of the moment of the snapshot. ok is false
// when the map is not fresh.
func (r *Roster) Checksum(ctx context.Context) (memory, postgres Sums, ok bool, err error) {
	if postgres, err = r.store.Scan(ctx, nil, true); err != nil {
		return memory, postgres, false, fmt.Errorf("add up the relations: %w", err)
	}
	memory, ok = r.Sums()
	return memory, postgres, ok, nil
}

// Sums adds the map up, user by user: some 200 ns per row, during which changes go on. ok is false when the map is not
// fresh or was replaced meanwhile.
func (r *Roster) Sums() (sums Sums, ok bool) {
	r.mu.RLock()
	g, fresh := r.graph, r.fresh()
	r.mu.RUnlock()
	if !fresh {
		return sums, false
	}
	var h hasher
	const step = 256
	for from, more := 0, true; more; from += step {
		if more, ok = r.sumStep(g, &h, &sums, from, from+step); !ok {
			return Sums{}, false
		}
	}
	return sums, true
}

func (r *Roster) sumStep(g *graph, h *hasher, sums *Sums, from, to int) (more, ok bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.graph != g {
		return false, false
	}
	end := min(to, len(g.users.ends))
	for user := from; user < end; user++ {
		g.sum(h, sums, uint32(user)) //nolint:gosec // numbers are below 2^28
	}
	return end == to, true
}

// sum adds one user's rows.
func (g *graph) sum(h *hasher, sums *Sums, user uint32) {
	id := g.users.at(user)
	if int(user) < len(g.known) && g.known[user] != 0 {
		h.add(&sums.Users, g.known[user]>>1, id)
	}
	for _, e := range g.peers.of(user) {
		h.add(&sums.Relations, e.traits(), id, g.users.at(e.number()))
	}
	for _, e := range g.owned.of(user) {
		h.add(&sums.Devices, e.traits(), id, g.devices.at(e.number()))
	}
	for _, e := range g.joined.of(user) {
		h.add(&sums.Memberships, e.traits(), id, []byte(g.sessions.ids[e.number()].String()))
	}
}

// Verify loads the relations afresh and adds them up both here and in PostgreSQL, all in one snapshot, so that the sums
// are equal whatever is being written.
func Verify(ctx context.Context, store Store, cfg Config) (memory, postgres Sums, bytes int64, err error) {
	if cfg.MaxBytes <= 0 {
		cfg.MaxBytes = MaxBytes
	}
	b := newBuilder(cfg.MaxBytes)
	if postgres, err = store.Scan(ctx, b, true); err != nil {
		return memory, postgres, 0, fmt.Errorf("load the relations: %w", err)
	}
	g, err := b.graph()
	if err != nil {
		return memory, postgres, 0, err
	}
	var h hasher
	for user := range len(g.users.ends) {
		g.sum(&h, &memory, uint32(user))
	}
	return memory, postgres, g.bytes(), nil
}
