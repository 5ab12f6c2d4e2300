package app

import (
	"context"
	"fmt"
	"maps"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/refusal"
)

// Of a page of backlog: what bounds the round trips of a device.
const pageEntries = 512

// TestReturningDevices counts what devices cost that come back at once to 100 sessions of 50 unread messages each: one
// statement each at most, and round trips to Redis by pages, not by sessions, whatever the machine's speed.
func TestReturningDevices(t *testing.T) {
	const sessions, unread = 100, 50
	devices := 50
	if testing.Short() {
		devices = 10
	}
	for _, shared := range []bool{true, false} {
		for _, ring := range []int64{0, 256 << 20} {
			if shared && ring > 0 {
				continue // it asks Redis nothing at all
			}
			t.Run(fmt.Sprintf("shared=%t/ring=%d", shared, ring), func(t *testing.T) {
				w := newReturning(t, returningSetup{users: devices, sessions: sessions, unread: unread, shared: shared, ringBytes: ring})
				pages := (sessions*unread + pageEntries - 1) / pageEntries
				devices := devices
				for {
					w.settled()
					got, err := w.tryAllBack(devices)
					if reason, _ := refusal.Of(err); reason == refusal.Unavailable && devices > 5 {
						t.Logf("too many for this machine: %d", devices)
						devices /= 2
						continue
					}
					require.NoError(t, err)
					require.Equal(t, devices*sessions*unread, got)
					break
				}
				cold := w.pg.take()
				t.Logf("cold: PostgreSQL %v, Redis %+v", cold, w.redis.take())
				require.LessOrEqual(t, cold["StartList"], devices)
				require.LessOrEqual(t, cold["MessageListRanges"], devices*pages, "bodies that no cache has: a statement per page")
				for at, try := devices, 1; ; try, at = try+1, max(at/4, 1) {
					w.settled()
					devices := at
					got, err := w.tryAllBack(devices)
					if reason, _ := refusal.Of(err); reason == refusal.Unavailable && at > 1 {
						t.Logf("too many for this machine: %d", devices)
						continue
					}
					require.NoError(t, err)
					require.Equal(t, devices*sessions*unread, got)
					warm, redis := w.pg.take(), w.redis.take()
					t.Logf("warm: PostgreSQL %v, Redis %+v", warm, redis)
					require.LessOrEqual(t, warm["StartList"], devices)
					// A node whose map of memberships is held up, or too old to tell, asks PostgreSQL instead: again, then.
					if try < 6 && len(unexpected(warm)) > 0 {
						continue
					}
					require.Empty(t, unexpected(warm))
					if warm["MessageListRanges"] == 0 {
						require.LessOrEqual(t, redis.round, devices*(pages+1)) // nothing was repaired: these are readings
						break                                                  // one statement for each device at most, and that for several of them
					}
					// A Redis that did not answer in time is passed over: on a machine that is that busy, again, with fewer.
					require.Less(t, try, 6, "Redis has not served a pass")
					require.LessOrEqual(t, warm["MessageListRanges"], devices*pages)
				}
			})
		}
	}
}

// unexpected are the statements that a device's coming back cost and may not.
func unexpected(n map[string]int) map[string]int {
	rest := maps.Clone(n)
	for _, name := range []string{"StartList", "MessageListRanges", "DeviceSetSeenMany", "show transaction_read_only"} { // once a second for all; once a connection
		delete(rest, name)
	}
	return rest
}

// TestHotGroupComesOnline lets the members of a group of 10,000 come online at once: Redis is read once for all of them,
// and holds nothing that grows with members.
func TestHotGroupComesOnline(t *testing.T) {
	const members, unread = 10_000, 50
	online := 2_000
	if testing.Short() {
		online = 200
	}
	w := newReturning(t, returningSetup{users: members, sessions: 1, unread: unread, shared: true, ringBytes: 64 << 20})
	back := func() {
		t.Helper()
		for {
			w.settled()
			got, err := w.tryAllBack(online)
			if reason, _ := refusal.Of(err); reason != refusal.Unavailable || online <= 100 {
				require.NoError(t, err)
				require.Equal(t, online*unread, got)
				return
			}
			t.Logf("too many for this machine: %d", online)
			online /= 2
		}
	}
	back()
	redis, pg := w.redis.take(), w.pg.take()
	t.Logf("%d online: PostgreSQL %v, Redis %+v", online, pg, redis)
	if redis.failed > 2 { // the scripts that Redis did not know yet
		t.Log("Redis has not answered in time: it was asked again, and the ring is what serves")
	} else {
		require.LessOrEqual(t, redis.commands, 12, "one reading, a transaction of five commands, and one lease and one repair, each first without and then with its script")
	}
	require.LessOrEqual(t, pg["MessageListRanges"], 1)
	require.LessOrEqual(t, pg["StartList"], online)
	for try := 1; ; try++ {
		back()
		redis := w.redis.take()
		if redis.failed == 0 {
			require.Empty(t, redis.names, "it is in the ring")
			break
		}
		require.Less(t, try, 6, "Redis has not answered in time: %v", redis.names) // as on a machine that is that busy
	}

	ctx := context.Background()
	keys, err := w.keys.Keys(ctx, "*").Result()
	require.NoError(t, err)
	require.LessOrEqual(t, len(keys), 3, "chunks and lease of one session, and the probe: %v", keys)
	for _, key := range keys {
		size := int64(1)
		switch kind := w.keys.Type(ctx, key).Val(); kind {
		case "zset":
			size = w.keys.ZCard(ctx, key).Val()
		case "hash":
			size = w.keys.HLen(ctx, key).Val()
		case "string":
		default:
			t.Errorf("%s is a %s", key, kind)
		}
		require.LessOrEqual(t, size, int64(unread)+1, "%s: entries, and whose life they are of", key)
	}
}
