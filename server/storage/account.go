package storage

import (
	"context"
	"time"

	"github.com/parley-im/parley/gen/sqlc"
	"github.com/parley-im/parley/server/account"
)

// Accounts implements account.Store.
type Accounts struct{ *DB }

// Upsert implements account.Store.
func (s Accounts) Upsert(ctx context.Context, userID string, p account.Profile, now time.Time) (account.User, error) {
	u, err := s.q.UserUpsert(ctx, s.pool, sqlc.UserUpsertParams{
		UserID: userID, DisplayName: p.DisplayName, AvatarUrl: p.AvatarURL, Now: now,
	})
	if err != nil {
		return account.User{}, Fault(err)
	}
	return account.User{
		ID: u.UserID, Profile: account.Profile{DisplayName: u.DisplayName, AvatarURL: u.AvatarUrl},
		DeactivatedAt: utc(u.DeactivatedAt), CreatedAt: u.CreatedAt.UTC(),
	}, nil
}

// Deactivate implements account.Store.
func (s Accounts) Deactivate(ctx context.Context, userID string, now time.Time) (bool, error) {
	n, err := s.q.UserDeactivate(ctx, s.pool, sqlc.UserDeactivateParams{UserID: userID, Now: now})
	return n > 0, Fault(err)
}

// Estimates implements account.Store.
func (s Accounts) Estimates(ctx context.Context) (account.Estimates, error) {
	e, err := s.q.TableEstimates(ctx, s.pool)
	return account.Estimates(e), Fault(err)
}

// utc turns a time that may be absent, which pgx reads in the local zone, into UTC.
func utc(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	u := t.UTC()
	return &u
}
