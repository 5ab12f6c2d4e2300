package storage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/gen/sqlc"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/session"
)

// errMadeMeanwhile ends a transaction that found no session to lock and then could not make it.
var errMadeMeanwhile = errors.New("the session was made by another transaction")

// WithLog runs fn in one transaction that holds the lock of the session's row and, where it appended entries, writes one
// row to the commit log. It returns the entries in seq order once they are committed. fn runs again from the start, at
// most five times in all, after a deadlock, a serialization failure, or when another transaction made the session that fn
// was about to make. fn's errors come back as they are and roll everything back.
func (s Sessions) WithLog(ctx context.Context, id uuid.UUID, fn session.Change) ([]message.Entry, error) {
	entries, _, err := s.withLog(ctx, id, fn)
	return entries, err
}

// withLog is WithLog, with the epoch in which the entries were committed.
func (s Sessions) withLog(ctx context.Context, id uuid.UUID, fn session.Change) ([]message.Entry, string, error) {
	var entries []message.Entry
	var epoch string
	var err error
	for range maxTries {
		err = s.InTx(ctx, func(tx pgx.Tx) error {
			l := &sessionLog{q: s.q, tx: tx, id: id}
			if err := l.lock(ctx); err != nil {
				return err
			}
			if err := fn(ctx, l); err != nil {
				return err
			}
			entries, epoch = l.entries, epochOf(tx.Conn())
			return l.noteCommit(ctx)
		})
		if !errors.Is(err, errMadeMeanwhile) {
			break
		}
	}
	if err != nil {
		return nil, "", err
	}
	return entries, epoch, nil
}

// sessionLog implements session.Log.
type sessionLog struct {
	q       *sqlc.Queries
	tx      pgx.Tx
	id      uuid.UUID
	session session.Session
	found   bool
	entries []message.Entry
}

func (l *sessionLog) lock(ctx context.Context) error {
	row, err := l.q.SessionLock(ctx, l.tx, l.id)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	l.session, l.found = sessionOf(row), err == nil
	return err
}

func (l *sessionLog) noteCommit(ctx context.Context) error {
	if len(l.entries) == 0 {
		return nil
	}
	var recalls []uuid.UUID
	for _, e := range l.entries {
		if e.Type == message.TypeRecall {
			recalls = []uuid.UUID{l.id}
		}
	}
	_, err := l.q.CommitLogAppend(ctx, l.tx, sqlc.CommitLogAppendParams{
		SessionIds: []uuid.UUID{l.id}, Heads: []int64{l.session.LastSeq},
		StateUsers: []string{}, StateSessions: []uuid.UUID{}, Recalls: recalls,
	})
	return err
}

func (l *sessionLog) Session() (session.Session, bool) { return l.session, l.found }

func (l *sessionLog) Member(ctx context.Context, userID string) (session.Membership, bool, error) {
	if !isText(userID) {
		return session.Membership{}, false, nil
	}
	row, err := l.q.MemberGet(ctx, l.tx, sqlc.MemberGetParams{UserID: userID, SessionID: l.id})
	if errors.Is(err, pgx.ErrNoRows) {
		return session.Membership{}, false, nil
	}
	return membershipOf(row), err == nil, err
}

func (l *sessionLog) CountRole(ctx context.Context, role session.Role) (int64, error) {
	return l.q.MemberCountRole(ctx, l.tx, sqlc.MemberCountRoleParams{SessionID: l.id, Role: int16(role)})
}

func (l *sessionLog) Candidates(ctx context.Context, by string, userIDs []string) ([]session.Candidate, error) {
	rows, err := l.q.MemberCandidates(ctx, l.tx, sqlc.MemberCandidatesParams{
		AskedBy: by, UserIds: texts(userIDs), SessionID: l.id,
	})
	if err != nil {
		return nil, err
	}
	out := make([]session.Candidate, len(userIDs))
	for i, id := range userIDs {
		out[i].UserID = id
		if len(rows) > 0 && rows[0].UserID == id { // rows are in the same order, without what is no text
			out[i].Available, out[i].Member, out[i].Parts = rows[0].IsAvailable, rows[0].IsMember, int(rows[0].Parts)
			rows = rows[1:]
		}
	}
	return out, nil
}

// Full locks in one statement and counts in the next, which sees what others committed while the first waited.
func (l *sessionLog) Full(ctx context.Context, near, all []string, limit int) ([]string, error) {
	if len(near) > 0 {
		if err := l.q.UserLockMany(ctx, l.tx, near); err != nil {
			return nil, err
		}
	}
	return l.q.MembershipListFull(ctx, l.tx, sqlc.MembershipListFullParams{
		UserIds: all, MaxSessions: int32(limit), //nolint:gosec // at most session.MaxMaxSessions
	})
}

func (l *sessionLog) Create(ctx context.Context, s session.Session) error {
	s.CreatedAt = stamp(s.CreatedAt)
	made, err := l.q.SessionCreate(ctx, l.tx, sqlc.SessionCreateParams{
		SessionID: l.id, OwnerID: s.OwnerID, Title: s.Title, AvatarUrl: s.AvatarURL,
		HistoryVisible: s.HistoryVisible, SendRole: int16(s.SendRole), CreatedAt: s.CreatedAt,
	})
	if err != nil {
		return err
	}
	if made == 0 {
		return errMadeMeanwhile
	}
	s.ID, s.LastSeq, s.CountableTotal, s.MemberCount = l.id, 0, 0, 0
	l.session, l.found = s, true
	return nil
}

func (l *sessionLog) Update(ctx context.Context, s session.Session) error {
	l.session.Title, l.session.AvatarURL = s.Title, s.AvatarURL
	l.session.HistoryVisible, l.session.SendRole = s.HistoryVisible, s.SendRole
	return l.q.SessionUpdate(ctx, l.tx, sqlc.SessionUpdateParams{
		Title: s.Title, AvatarUrl: s.AvatarURL, HistoryVisible: s.HistoryVisible, SendRole: int16(s.SendRole), SessionID: l.id,
	})
}

func (l *sessionLog) Join(ctx context.Context, userIDs []string, role session.Role, seq int64, fromStart bool) error {
	count, err := l.q.MemberJoin(ctx, l.tx, sqlc.MemberJoinParams{
		SessionID: l.id, Role: int16(role), Seq: seq, FromStart: fromStart, UserIds: userIDs,
	})
	l.session.MemberCount = count
	return err
}

func (l *sessionLog) Leave(ctx context.Context, userID string, seq int64) error {
	count, err := l.q.MemberLeave(ctx, l.tx, sqlc.MemberLeaveParams{SessionID: l.id, Seq: seq, UserID: userID})
	l.session.MemberCount = count
	return err
}

func (l *sessionLog) SetRole(ctx context.Context, userID string, role session.Role) error {
	return l.q.MemberSetRole(ctx, l.tx, sqlc.MemberSetRoleParams{Role: int16(role), UserID: userID, SessionID: l.id})
}

func (l *sessionLog) SetMuted(ctx context.Context, userID string, muted bool) error {
	return l.q.MemberSetMuted(ctx, l.tx, sqlc.MemberSetMutedParams{IsMuted: muted, UserID: userID, SessionID: l.id})
}

func (l *sessionLog) Message(ctx context.Context, seq int64) (m session.LoggedMessage, ok bool, err error) {
	row, err := l.q.MessageGetLocked(ctx, l.tx, sqlc.MessageGetLockedParams{SessionID: l.id, SeqID: seq})
	if errors.Is(err, pgx.ErrNoRows) {
		return m, false, nil
	}
	m = session.LoggedMessage{SenderID: row.UserID, Type: message.Type(row.Type)}
	if row.RecallSeq != nil {
		m.RecallSeq = *row.RecallSeq
	}
	return m, err == nil, err
}

func (l *sessionLog) Erase(ctx context.Context, seq, recallSeq int64) error {
	n, err := l.q.MessageErase(ctx, l.tx, sqlc.MessageEraseParams{RecallSeq: recallSeq, SessionID: l.id, SeqID: seq})
	if err == nil && n != 1 {
		return fmt.Errorf("erase entry %d of session %s: there is none, or it was recalled before", seq, l.id)
	}
	return err
}

// Append writes both rows in one round trip: under the lock the next seq is known beforehand.
func (l *sessionLog) Append(ctx context.Context, by session.Actor, content *parleyv1.Content, now time.Time) (e message.Entry, err error) {
	kind, ok := session.EventType(content)
	if !ok {
		return e, fmt.Errorf("append to session %s: content is no log event", l.id)
	}
	body, err := session.EncodeBody(content)
	if err != nil {
		return e, fmt.Errorf("append to session %s: %w", l.id, err)
	}
	e = message.Entry{
		SessionID: l.id, Seq: l.session.LastSeq + 1, MessageID: session.NewID(now), SenderID: by.UserID,
		SenderDevice: by.DeviceID, Type: kind, Body: body, CreatedAt: stamp(now),
	}
	var batch pgx.Batch
	var seq, countable int64
	batch.Queue(sqlc.SessionBump, l.id).QueryRow(func(row pgx.Row) error { return row.Scan(&seq, &countable) })
	batch.Queue(sqlc.MessageAppend, l.id, e.Seq, e.MessageID, e.SenderID, e.SenderDevice, int16(e.Type), e.Body,
		l.session.CountableTotal, e.CreatedAt)
	if err := l.tx.SendBatch(ctx, &batch).Close(); err != nil {
		return message.Entry{}, err
	}
	if seq != e.Seq || countable != l.session.CountableTotal {
		return message.Entry{}, fmt.Errorf("append to session %s: its head is %d under the lock of %d", l.id, seq, e.Seq-1)
	}
	l.session.LastSeq = seq
	l.entries = append(l.entries, e)
	return e, nil
}
