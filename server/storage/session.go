package storage

import (
	"context"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/parley-im/parley/gen/sqlc"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/session"
)

// Sessions implements session.Store and, for the committer, WithLog.
type Sessions struct{ *DB }

// View implements session.Store.
func (s Sessions) View(ctx context.Context, userID string, id uuid.UUID) (session.View, bool, error) {
	rows, err := s.q.SessionViewList(ctx, s.pool, sqlc.SessionViewListParams{
		UserID: userID, FromID: id, ToID: id, IncludeLeft: true, MaxSessions: 1,
	})
	if err != nil || len(rows) == 0 {
		return session.View{}, false, Fault(err)
	}
	return viewOf(rows[0]), true, nil
}

// Views implements session.Store.
func (s Sessions) Views(ctx context.Context, userID string, after uuid.UUID, includeLeft bool, limit int) ([]session.View, error) {
	if after == uuid.Max {
		return nil, nil
	}
	rows, err := s.q.SessionViewList(ctx, s.pool, sqlc.SessionViewListParams{
		UserID: userID, FromID: successor(after), ToID: uuid.Max, IncludeLeft: includeLeft,
		MaxSessions: int32(limit), //nolint:gosec // a page
	})
	if err != nil {
		return nil, Fault(err)
	}
	views := make([]session.View, len(rows))
	for i, r := range rows {
		views[i] = viewOf(r)
	}
	return views, nil
}

// successor returns the id that comes next in PostgreSQL's order, which is that of the bytes. uuid.Max has none.
func successor(id uuid.UUID) uuid.UUID {
	for i := len(id) - 1; i >= 0; i-- {
		id[i]++
		if id[i] != 0 {
			break
		}
	}
	return id
}

// Membership implements session.Store.
func (s Sessions) Membership(ctx context.Context, userID string, id uuid.UUID) (m session.Membership, found session.Session, ok bool, err error) {
	row, err := s.q.MembershipGet(ctx, s.pool, sqlc.MembershipGetParams{UserID: userID, SessionID: id})
	if errors.Is(err, pgx.ErrNoRows) {
		return m, found, false, nil
	}
	if err != nil {
		return m, found, false, Fault(err)
	}
	m = membershipOf(row.UserToSession)
	m.Reach = session.Reach(row.Reach)
	return m, sessionOf(row.Session), true, nil
}

// Members implements session.Store.
func (s Sessions) Members(ctx context.Context, viewer string, id uuid.UUID, after string, limit int) ([]session.Member, error) {
	rows, err := s.q.MemberList(ctx, s.pool, sqlc.MemberListParams{
		SessionID: id, AfterUser: after, Viewer: viewer, MaxMembers: int32(limit), //nolint:gosec // a page
	})
	if err != nil {
		return nil, Fault(err)
	}
	out := make([]session.Member, len(rows))
	for i, r := range rows {
		out[i] = session.Member{UserID: r.UserID, DisplayName: r.DisplayName, Role: session.Role(r.Role),
			JoinedSeq: r.JoinedSeq, ReadSeq: r.ReadSeq, Muted: r.IsMuted}
	}
	return out, nil
}

// MemberIDs implements session.Store.
func (s Sessions) MemberIDs(ctx context.Context, id uuid.UUID) ([]string, error) {
	ids, err := s.q.MemberListIDs(ctx, s.pool, id)
	return ids, Fault(err)
}

// Heads implements session.Store.
func (s Sessions) Heads(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]int64, error) {
	rows, err := s.q.SessionHeads(ctx, s.pool, ids)
	if err != nil {
		return nil, Fault(err)
	}
	heads := make(map[uuid.UUID]int64, len(rows))
	for _, r := range rows {
		heads[r.SessionID] = r.LastSeq
	}
	return heads, nil
}

// SetOwn implements session.Store.
func (s Sessions) SetOwn(ctx context.Context, userID string, id uuid.UUID, own session.OwnSettings) (changed, ok bool, err error) {
	changed, err = s.q.MembershipUpdate(ctx, s.pool, sqlc.MembershipUpdateParams{
		UserID: userID, SessionID: id,
		NotificationsMuted: own.NotificationsMuted, IsPinned: own.Pinned, IsArchived: own.Archived,
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return false, false, nil
	}
	return changed, err == nil, Fault(err)
}

// Full implements session.Store.
func (s Sessions) Full(ctx context.Context, userIDs []string, limit int) ([]string, error) {
	ids, err := s.q.MembershipListFull(ctx, s.pool, sqlc.MembershipListFullParams{
		UserIds: texts(userIDs), MaxSessions: int32(limit), //nolint:gosec // session.MaxSessions
	})
	return ids, Fault(err)
}

func sessionOf(r sqlc.Session) session.Session {
	s := session.Session{
		ID: r.SessionID, Kind: session.Kind(r.Kind), OwnerID: r.OwnerID, Title: r.Title, AvatarURL: r.AvatarUrl,
		HistoryVisible: r.HistoryVisible, SendRole: session.Role(r.SendRole), MemberCount: r.MemberCount,
		LastSeq: r.LastSeq, CountableTotal: r.CountableTotal, CreatedAt: r.CreatedAt.UTC(),
	}
	if r.DirectLow != nil && r.DirectHigh != nil {
		s.DirectLow, s.DirectHigh = *r.DirectLow, *r.DirectHigh
	}
	return s
}

func membershipOf(r sqlc.UserToSession) session.Membership {
	m := session.Membership{
		UserID: r.UserID, SessionID: r.SessionID, Role: session.Role(r.Role), JoinedSeq: r.JoinedSeq,
		Visible: visibility(r.Earlier, r.VisibleSeq, r.LeftSeq), ReadSeq: r.ReadSeq, DeletedToSeq: r.DeletedToSeq,
		MarkedUnread: r.MarkedUnread, Muted: r.IsMuted, NotificationsMuted: r.NotificationsMuted, Pinned: r.IsPinned,
		Archived: r.IsArchived,
	}
	if r.LeftSeq != nil {
		m.LeftSeq = *r.LeftSeq
	}
	return m
}

func viewOf(r sqlc.SessionViewListRow) session.View {
	v := session.View{
		Session: sessionOf(r.Session), Member: membershipOf(r.UserToSession), Unread: r.Unread,
		LastReadApart: r.LastReadApart, LastDeletedApart: r.LastDeletedApart,
	}
	if r.LastSeqID != nil { // the columns of one row: all of them are set or none
		v.Last = message.Entry{
			SessionID: v.Session.ID, Seq: *r.LastSeqID, MessageID: *r.LastMsgID, SenderID: *r.LastUserID,
			SenderDevice: *r.LastDeviceID, Type: message.Type(*r.LastType), Body: r.LastContent,
			IsDeleted: *r.LastIsDelete, CreatedAt: r.LastCreatedAt.UTC(),
		}
	}
	return v
}

// stamp returns a time as timestamptz keeps it, so that what is answered now and what is read later are equal.
func stamp(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// isText reports whether PostgreSQL takes a string as text. No user has an id that it does not take.
func isText(s string) bool { return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 }

// texts returns the strings that are text, in their order.
func texts(in []string) []string {
	out := make([]string, 0, len(in))
	for _, s := range in {
		if isText(s) {
			out = append(out, s)
		}
	}
	return out
}
