package app

import (
	"context"
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/presence"
	"github.com/parley-im/parley/server/storage"
	"github.com/parley-im/parley/server/webhook"
)

// webhookConns is how many connections to PostgreSQL webhooks use at most, beside those of the API.
const webhookConns = 10

// webhooks are the parts that belong to webhooks.
type webhooks struct {
	runner    *webhook.Runner
	service   *webhook.Service
	moderator *webhook.Moderator
	sender    *webhook.Sender
}

// connectWebhooks makes the parts. The tracker of presences must be there.
func (a *App) connectWebhooks(ctx context.Context, life *epoch, reg prometheus.Registerer) (*webhooks, error) {
	c := a.cfg.Webhook
	addresses, err := webhook.ParseAddresses(c.AllowCIDRs, c.AllowHTTP)
	if err != nil {
		return nil, fmt.Errorf("PARLEY_WEBHOOK_ALLOW_CIDRS: %w", err)
	}
	sealer, err := c.sealer()
	if err != nil {
		return nil, err
	}
	if a.hookPool, err = storage.OpenPool(ctx, a.cfg.Postgres.URL, webhookConns); err != nil {
		return nil, err
	}
	w := &webhooks{sender: webhook.NewSender(addresses, sealer, a.clock, Version)}
	var drainer *webhook.Drainer
	store, err := storage.NewWebhooks(storage.New(a.hookPool), func() storage.Drain { return drainer.Drain }, a.log)
	if err != nil {
		return nil, err
	}
	metrics := webhook.NewMetrics(reg)
	drainer = webhook.NewDrainer(store, whoIsOnline{a.presence}, life, w.sender, a.clock, metrics)
	w.moderator = webhook.NewModerator(storage.Standings{DB: storage.New(a.pool)}, life, w.sender, a.clock, metrics)
	w.runner = webhook.NewRunner(webhook.Config{LogTTL: c.LogTTL, Backlog: c.Backlog}, store, w.moderator, life, a.clock, a.log, metrics, reg)
	w.service = webhook.NewService(store, addresses, sealer, w.sender, w.runner.Changed, a.clock)
	n, err := w.runner.Load(ctx)
	if err != nil {
		return nil, err
	}
	if n > 0 && sealer == nil {
		return nil, errors.New("PARLEY_WEBHOOK_KEY is not set, but there are webhooks whose secrets it sealed")
	}
	return w, nil
}

// sealer is nil where no key is set.
func (c WebhookConfig) sealer() (*webhook.Sealer, error) {
	if c.Key == "" {
		return nil, nil //nolint:nilnil // nil means that webhooks are off
	}
	keys := []string{c.Key}
	if c.KeyOld != "" {
		keys = append(keys, c.KeyOld)
	}
	s, err := webhook.NewSealer(keys...)
	if err != nil {
		return nil, fmt.Errorf("PARLEY_WEBHOOK_KEY: %w", err)
	}
	return s, nil
}

// whoIsOnline is webhook.Presence.
type whoIsOnline struct{ tracker *presence.Tracker }

func (w whoIsOnline) Online(ctx context.Context, users []string) map[string]bool {
	return w.tracker.Anywhere(ctx, users)
}

// toldPublisher wakes the webhooks' reader after what this node committed.
type toldPublisher struct {
	publisher
	wake func()
}

// Publish implements committer.Publisher.
func (p toldPublisher) Publish(epoch string, entries []message.Entry) {
	p.publisher.Publish(epoch, entries)
	p.wake()
}
