package storage

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/parley-im/parley/server/breaker"
	"github.com/parley-im/parley/server/rate"
)

// RateBoard implements rate.Board: one number per key, the moment in microseconds of Redis's own clock at which nothing is
// owed any more. A key lives as long as something is. epoch tells the life of the log, which keeps databases that share a
// Redis apart.
type RateBoard struct {
	client redis.UniversalClient
	epoch  func() string
}

// NewRateBoard returns a board.
func NewRateBoard(client redis.UniversalClient, epoch func() string) *RateBoard {
	return &RateBoard{client, epoch}
}

// chargeScript moves the moment by an amount and returns what is owed. ARGV: the amount and the bucket's size in
// microseconds. No more than two buckets are ever owed, so that no mistake locks a key out for long.
var chargeScript = redis.NewScript(`
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local paid = tonumber(redis.call('GET', KEYS[1]) or now)
if paid < now then paid = now end
paid = math.min(paid + tonumber(ARGV[1]), now + 2 * tonumber(ARGV[2]))
if paid <= now then
  redis.call('DEL', KEYS[1])
  return 0
end
redis.call('SET', KEYS[1], string.format('%.0f', paid), 'PX', math.ceil((paid - now) / 1000))
return paid - now
`)

// rateFormat is the version of the values; it is part of the key.
const rateFormat = "rate1:"

func (b *RateBoard) key(k rate.Key) string {
	name := rateFormat + k.Rule.String() + ":" + b.epoch() + ":"
	if k.Rule == rate.MessagesSession {
		return name + fmt.Sprintf("%x", k.A)
	}
	return name + k.A + "\x00" + k.B
}

// Charge implements rate.Board.
func (b *RateBoard) Charge(ctx context.Context, charges []rate.Charge) ([]time.Duration, error) {
	owed := make([]time.Duration, len(charges))
	err := runScript(ctx, b.client, breaker.Writes, chargeScript, len(charges), func(i int) ([]string, []any) {
		c := charges[i]
		return []string{b.key(c.Key)}, []any{c.Amount.Microseconds(), max(c.Window.Microseconds(), 1)}
	}, func(i int, reply any) error {
		n, ok := reply.(int64)
		if !ok {
			return fmt.Errorf("redis gave %T for what is owed", reply)
		}
		owed[i] = time.Duration(n) * time.Microsecond
		return nil
	})
	return owed, err
}
