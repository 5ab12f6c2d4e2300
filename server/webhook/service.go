package webhook

import (
	"context"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jonboulle/clockwork"

	"github.com/parley-im/parley/server/refusal"
)

// Settings keeps webhooks and their log. Implemented by storage; safe for concurrent use. What a change makes wait, or
// makes it begin to be told, is in the same transaction.
type Settings interface {
	// Create makes a webhook unless there are max. Refusals: ErrModerationTaken; ok is false at the bound.
	Create(ctx context.Context, w Webhook, most int) (ok bool, err error)
	// List returns all, oldest first.
	List(ctx context.Context) ([]Webhook, error)
	// Change locks a webhook, applies fn and saves what it made; ok is false where there is none. Refusals: fn's, and
	// ErrModerationTaken.
	Change(ctx context.Context, id uuid.UUID, fn func(w *Webhook) error) (ok bool, err error)
	// Delete ends a webhook.
	Delete(ctx context.Context, id uuid.UUID) (ok bool, err error)
	// Waiting counts deliveries that wait, up to a bound.
	Waiting(ctx context.Context, id uuid.UUID, most int) (int, error)
	// Log returns deliveries before a place, newest first; state 0 means all.
	Log(ctx context.Context, id uuid.UUID, state State, before Place, most int) ([]Logged, error)
	// Replay makes deliveries wait again: those named, or up to most that were given up.
	Replay(ctx context.Context, id uuid.UUID, deliveries []uuid.UUID, most int, now time.Time) (int, error)
}

// Place is a delivery's place in its webhook's log.
type Place struct {
	Position int64
	Chunk    int32
}

// Logged is a delivery with its last attempts, newest first.
type Logged struct {
	Delivery
	Recent []Attempt
}

// Service has the rules of what the app's operators do with webhooks. Safe for concurrent use.
type Service struct {
	store     Settings
	addresses Addresses
	sealer    *Sealer // nil: webhooks are off
	sender    *Sender
	changed   func() // makes this node look at the webhooks again
	clock     clockwork.Clock
}

// NewService returns the service.
func NewService(store Settings, addresses Addresses, sealer *Sealer, sender *Sender, changed func(), clock clockwork.Clock) *Service {
	return &Service{store: store, addresses: addresses, sealer: sealer, sender: sender, changed: changed, clock: clock}
}

// New is a webhook to be made; a zero Timeout means DefaultModerationTimeout.
type New struct {
	URL, Description string
	Events           []EventType
	OnFailure        OnFailure
	Timeout          time.Duration
}

// Create makes a webhook and returns its secret. Refusals: WEBHOOKS_OFF, INVALID_FIELD, MODERATION_TAKEN,
// TOO_MANY_WEBHOOKS.
func (s *Service) Create(ctx context.Context, n New) (Webhook, string, error) {
	if s.sealer == nil {
		return Webhook{}, "", off
	}
	now := s.clock.Now().UTC().Truncate(time.Microsecond)
	w := Webhook{ID: uuid.New(), URL: n.URL, Description: n.Description, Events: n.Events, Enabled: true, OnFailure: n.OnFailure,
		Timeout: n.Timeout, CreatedAt: now, UpdatedAt: now}
	if w.Timeout == 0 {
		w.Timeout = DefaultModerationTimeout
	}
	if err := s.check(w); err != nil {
		return Webhook{}, "", err
	}
	secret := newSecret()
	w.Secret = s.sealer.Seal(secret)
	ok, err := s.store.Create(ctx, w, MaxWebhooks)
	if err != nil {
		return Webhook{}, "", err
	}
	if !ok {
		return Webhook{}, "", tooMany
	}
	s.changed()
	return w, secret, nil
}

func (s *Service) check(w Webhook) error {
	if err := s.addresses.checkURL(w.URL); err != nil {
		return err
	}
	if !utf8.ValidString(w.Description) || slices.Contains([]byte(w.Description), 0) {
		return refusal.New(refusal.InvalidField, "The description is no text.", "field", "description", "rule", "utf8")
	}
	if w.Moderates() != (w.OnFailure != Undecided) {
		return refusal.New(refusal.InvalidField, "Say what becomes of messages when moderation cannot be asked, if and only if it moderates.",
			"field", "moderation_failure", "rule", "with_moderation")
	}
	return nil
}

// List returns all webhooks with how many deliveries wait for each.
func (s *Service) List(ctx context.Context) ([]Webhook, []int, error) {
	list, err := s.store.List(ctx)
	if err != nil {
		return nil, nil, err
	}
	waiting := make([]int, len(list))
	for i, w := range list {
		if waiting[i], err = s.store.Waiting(ctx, w.ID, CountedWaiting); err != nil {
			return nil, nil, err
		}
	}
	return list, waiting, nil
}

// Update is what to change; nil and zero leave things as they are.
type Update struct {
	URL, Description *string
	Events           []EventType
	Enabled          *bool
	OnFailure        OnFailure
	Timeout          time.Duration
}

// Update changes a webhook. Refusals: WEBHOOK_UNAVAILABLE, INVALID_FIELD, MODERATION_TAKEN.
func (s *Service) Update(ctx context.Context, id uuid.UUID, u Update) (out Webhook, err error) {
	err = s.change(ctx, id, func(w *Webhook) error {
		if u.URL != nil {
			w.URL = *u.URL
		}
		if u.Description != nil {
			w.Description = *u.Description
		}
		if len(u.Events) > 0 {
			w.Events = u.Events
			if !w.Moderates() && u.OnFailure == Undecided {
				w.OnFailure = Undecided
			}
		}
		if u.Enabled != nil {
			w.Enabled, w.DisabledReason = *u.Enabled, 0
		}
		if u.OnFailure != Undecided {
			w.OnFailure = u.OnFailure
		}
		if u.Timeout != 0 {
			w.Timeout = u.Timeout
		}
		if err := s.check(*w); err != nil {
			return err
		}
		out = *w
		return nil
	})
	return out, err
}

func (s *Service) change(ctx context.Context, id uuid.UUID, fn func(w *Webhook) error) error {
	ok, err := s.store.Change(ctx, id, func(w *Webhook) error {
		w.UpdatedAt = s.clock.Now().UTC().Truncate(time.Microsecond)
		return fn(w)
	})
	if err != nil {
		return err
	}
	if !ok {
		return unavailable
	}
	s.changed()
	return nil
}

// Delete ends a webhook. Refusals: WEBHOOK_UNAVAILABLE.
func (s *Service) Delete(ctx context.Context, id uuid.UUID) error {
	ok, err := s.store.Delete(ctx, id)
	if err != nil {
		return err
	}
	if !ok {
		return unavailable
	}
	s.changed()
	return nil
}

// Rotate gives a webhook a new secret and returns it; for the time of the overlap requests are signed with the former one
// too. Refusals: WEBHOOKS_OFF, WEBHOOK_UNAVAILABLE.
func (s *Service) Rotate(ctx context.Context, id uuid.UUID, overlap time.Duration) (secret string, oldUntil *time.Time, err error) {
	if s.sealer == nil {
		return "", nil, off
	}
	secret = newSecret()
	sealed := s.sealer.Seal(secret)
	err = s.change(ctx, id, func(w *Webhook) error {
		w.OldSecret, w.OldSecretUntil, oldUntil = nil, nil, nil
		if overlap > 0 {
			until := w.UpdatedAt.Add(overlap)
			w.OldSecret, w.OldSecretUntil, oldUntil = w.Secret, &until, &until
		}
		w.Secret = sealed
		return nil
	})
	if err != nil {
		return "", nil, err
	}
	return secret, oldUntil, nil
}

// find returns a webhook. Refusals: WEBHOOK_UNAVAILABLE.
func (s *Service) find(ctx context.Context, id uuid.UUID) (Webhook, error) {
	list, err := s.store.List(ctx)
	if err != nil {
		return Webhook{}, err
	}
	for _, w := range list {
		if w.ID == id {
			return w, nil
		}
	}
	return Webhook{}, unavailable
}

// Log returns a page of a webhook's deliveries. Refusals: WEBHOOK_UNAVAILABLE.
func (s *Service) Log(ctx context.Context, id uuid.UUID, state State, before Place, most int) ([]Logged, error) {
	if _, err := s.find(ctx, id); err != nil {
		return nil, err
	}
	return s.store.Log(ctx, id, state, before, most)
}

// Replay makes deliveries wait again: those named, or where none is, up to MaxReplay that were given up. Refusals:
// WEBHOOK_UNAVAILABLE.
func (s *Service) Replay(ctx context.Context, id uuid.UUID, deliveries []uuid.UUID) (int, error) {
	if _, err := s.find(ctx, id); err != nil {
		return 0, err
	}
	return s.store.Replay(ctx, id, deliveries, MaxReplay, s.clock.Now())
}

// Test makes one request and tells what came of it. Refusals: WEBHOOKS_OFF, WEBHOOK_UNAVAILABLE.
func (s *Service) Test(ctx context.Context, id uuid.UUID) (Attempt, error) {
	if s.sealer == nil {
		return Attempt{}, off
	}
	w, err := s.find(ctx, id)
	if err != nil {
		return Attempt{}, err
	}
	body, err := encode(testEvent, s.clock.Now(), nil)
	if err != nil {
		return Attempt{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, AttemptTimeout/2)
	defer cancel()
	a, _ := s.sender.Post(ctx, w, uuid.New(), body, false)
	return a, nil
}
