package session_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/session"
)

// memory keeps sessions in memory: what the rules need of the store and of the committer, and no more. The suites of this
// package hold it against PostgreSQL.
type memory struct {
	session.Store // what is not implemented below

	mu       sync.Mutex
	users    map[string]bool // true: deactivated
	blocks   map[[2]string]bool
	sessions map[uuid.UUID]memorySession
	crowded  []string // what Full answers
}

type memorySession struct {
	session session.Session
	members map[string]session.Membership
	entries []memoryEntry
}

type memoryEntry struct {
	message.Entry
	recallSeq int64
}

func newMemory() *memory {
	return &memory{users: map[string]bool{}, blocks: map[[2]string]bool{}, sessions: map[uuid.UUID]memorySession{}}
}

func (m *memory) addUsers(_ testing.TB, ids ...string) {
	for _, id := range ids {
		m.users[id] = false
	}
}

func (m *memory) deactivate(_ testing.TB, id string)      { m.users[id] = true }
func (m *memory) block(_ testing.TB, by, peer string)     { m.blocks[[2]string{by, peer}] = true }
func (m *memory) crowd(_ testing.TB, id string)           { m.crowded = append(m.crowded, id) }
func (m *memory) sessionCount(testing.TB) int             { return len(m.sessions) }
func (m *memory) fill(_ testing.TB, id uuid.UUID, to int) { m.setCount(id, to) }

func (m *memory) setCount(id uuid.UUID, count int) {
	s := m.sessions[id]
	s.session.MemberCount = int32(count) //nolint:gosec // small
	m.sessions[id] = s
}

func (m *memory) direct(_ testing.TB, a, b string) uuid.UUID {
	id, low, high := session.DirectID(a, b)
	s := memorySession{members: map[string]session.Membership{}, entries: []memoryEntry{{Entry: message.Entry{
		SessionID: id, Seq: 1, SenderID: a, Type: message.TypeText, Body: []byte{}}}}}
	s.session = session.Session{ID: id, Kind: session.KindDirect, OwnerID: low, DirectLow: low, DirectHigh: high,
		SendRole: session.RoleMember, MemberCount: 2, LastSeq: 1}
	for _, user := range []string{a, b} {
		s.members[user] = session.Membership{UserID: user, SessionID: id, Role: session.RoleMember, JoinedSeq: 1,
			Visible: session.Visibility{{From: 1, To: session.Open}}}
	}
	m.sessions[id] = s
	return id
}

func (m *memory) entries(_ testing.TB, id uuid.UUID) []message.Entry {
	var out []message.Entry
	for _, e := range m.sessions[id].entries {
		out = append(out, e.Entry)
	}
	return out
}

// Full implements session.Store.
func (m *memory) Full(_ context.Context, userIDs []string, _ int) (full []string, err error) {
	for _, id := range m.crowded {
		if slices.Contains(userIDs, id) {
			full = append(full, id)
		}
	}
	return full, nil
}

// Full implements session.Log.
func (l *memoryLog) Full(ctx context.Context, _, all []string, limit int) ([]string, error) {
	return l.m.Full(ctx, all, limit)
}

// View implements session.Store, without counts.
func (m *memory) View(_ context.Context, userID string, id uuid.UUID) (session.View, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.sessions[id]
	own, ok := s.members[userID]
	return session.View{Session: s.session, Member: own}, ok, nil
}

// Change implements session.Committer: a copy takes the place of the session when fn succeeds.
func (m *memory) Change(ctx context.Context, id uuid.UUID, fn session.Change) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, found := m.sessions[id]
	l := &memoryLog{m: m, id: id, found: found, memorySession: memorySession{
		session: s.session, members: maps.Clone(s.members), entries: slices.Clone(s.entries)}}
	if err := fn(ctx, l); err != nil {
		return err
	}
	if l.found {
		m.sessions[id] = l.memorySession
	}
	return nil
}

// memoryLog implements session.Log.
type memoryLog struct {
	memorySession
	m     *memory
	id    uuid.UUID
	found bool
}

func (l *memoryLog) Session() (session.Session, bool) { return l.session, l.found }

func (l *memoryLog) Member(_ context.Context, userID string) (session.Membership, bool, error) {
	m, ok := l.members[userID]
	return m, ok, nil
}

func (l *memoryLog) CountRole(_ context.Context, role session.Role) (n int64, err error) {
	for _, m := range l.members {
		if m.Active() && m.Role == role {
			n++
		}
	}
	return n, nil
}

func (l *memoryLog) Candidates(_ context.Context, by string, userIDs []string) (out []session.Candidate, err error) {
	for _, id := range userIDs {
		gone, exists := l.m.users[id]
		m, known := l.members[id]
		c := session.Candidate{UserID: id, Available: exists && !gone && !l.m.blocks[[2]string{id, by}], Member: known && m.Active()}
		if known && !c.Member {
			c.Parts = len(m.Visible)
		}
		out = append(out, c)
	}
	return out, nil
}

func (l *memoryLog) Create(_ context.Context, s session.Session) error {
	s.CreatedAt = s.CreatedAt.UTC().Truncate(time.Microsecond)
	l.session, l.members, l.found = s, map[string]session.Membership{}, true
	return nil
}

func (l *memoryLog) Update(_ context.Context, s session.Session) error {
	l.session.Title, l.session.AvatarURL = s.Title, s.AvatarURL
	l.session.HistoryVisible, l.session.SendRole = s.HistoryVisible, s.SendRole
	return nil
}

func (l *memoryLog) Join(_ context.Context, userIDs []string, role session.Role, seq int64, fromStart bool) error {
	for _, id := range userIDs {
		m, known := l.members[id]
		if known && m.Active() {
			continue
		}
		m.UserID, m.SessionID, m.Role, m.JoinedSeq, m.LeftSeq, m.Muted = id, l.id, role, seq, 0, false
		if fromStart {
			m.Visible = session.Visibility{{From: 1, To: session.Open}}
		} else {
			m.Visible = append(slices.Clone(m.Visible), session.Interval{From: seq, To: session.Open})
		}
		l.members[id] = m
		l.session.MemberCount++
	}
	return nil
}

func (l *memoryLog) Leave(_ context.Context, userID string, seq int64) error {
	m := l.members[userID]
	m.LeftSeq, m.Visible = seq, m.Visible.CutAt(seq)
	l.members[userID] = m
	l.session.MemberCount--
	return nil
}

func (l *memoryLog) SetRole(_ context.Context, userID string, role session.Role) error {
	m := l.members[userID]
	m.Role = role
	l.members[userID] = m
	return nil
}

func (l *memoryLog) SetMuted(_ context.Context, userID string, muted bool) error {
	m := l.members[userID]
	m.Muted = muted
	l.members[userID] = m
	return nil
}

func (l *memoryLog) Message(_ context.Context, seq int64) (session.LoggedMessage, bool, error) {
	if seq < 1 || seq > int64(len(l.memorySession.entries)) {
		return session.LoggedMessage{}, false, nil
	}
	e := l.memorySession.entries[seq-1]
	return session.LoggedMessage{SenderID: e.SenderID, Type: e.Type, RecallSeq: e.recallSeq}, true, nil
}

func (l *memoryLog) Erase(_ context.Context, seq, recallSeq int64) error {
	if seq < 1 || seq > int64(len(l.memorySession.entries)) || l.memorySession.entries[seq-1].IsDeleted {
		return fmt.Errorf("no entry %d to erase", seq)
	}
	e := &l.memorySession.entries[seq-1]
	e.Entry, e.recallSeq = e.Erased(), recallSeq
	return nil
}

func (l *memoryLog) Append(_ context.Context, by session.Actor, content *parleyv1.Content, now time.Time) (e message.Entry, err error) {
	kind, ok := session.EventType(content)
	if !ok {
		return e, errors.New("no log event")
	}
	body, err := session.EncodeBody(content)
	if err != nil {
		return e, err
	}
	l.session.LastSeq++
	e = message.Entry{SessionID: l.id, Seq: l.session.LastSeq, MessageID: session.NewID(now), SenderID: by.UserID,
		SenderDevice: by.DeviceID, Type: kind, Body: body, CreatedAt: now.UTC().Truncate(time.Microsecond)}
	l.memorySession.entries = append(l.memorySession.entries, memoryEntry{Entry: e})
	return e, nil
}
