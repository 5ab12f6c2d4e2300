package webhook

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"
)

// vectorSecret, and what follows of it, is the test vector that the libraries of Standard Webhooks share.
const (
	vectorSecret    = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	vectorID        = "msg_p5jXN8AQM9LWM0D4loKWxJek"
	vectorTime      = 1614265330
	vectorBody      = `{"test": 2432232314}`
	vectorSignature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
)

func TestSignatureVector(t *testing.T) {
	w, sealer := hook(t, "")
	s := NewSender(Addresses{}, sealer, clockwork.NewFakeClock(), "test")
	got, err := s.sign(w, vectorID, time.Unix(vectorTime, 0), []byte(vectorBody))
	require.NoError(t, err)
	require.Equal(t, vectorSignature, got)
}

func TestSignaturesWhileSecretsChange(t *testing.T) {
	w, sealer := hook(t, "")
	s := NewSender(Addresses{}, sealer, clockwork.NewRealClock(), "test")
	now := time.Now()
	until := now.Add(time.Minute)
	fresh := newSecret()
	w.OldSecret, w.OldSecretUntil, w.Secret = w.Secret, &until, sealer.Seal(fresh)
	verify := func(secret, signature string) error {
		wh, err := standardwebhooks.NewWebhook(secret)
		require.NoError(t, err)
		h := http.Header{}
		h.Set("webhook-id", "x")
		h.Set("webhook-timestamp", strconv.FormatInt(now.Unix(), 10))
		h.Set("webhook-signature", signature)
		return wh.VerifyIgnoringTimestamp([]byte("{}"), h)
	}
	both, err := s.sign(w, "x", now, []byte("{}"))
	require.NoError(t, err)
	require.Len(t, strings.Split(both, " "), 2)
	require.NoError(t, verify(fresh, both))
	require.NoError(t, verify(vectorSecret, both))
	w.OldSecretUntil = &now // over at this moment
	one, err := s.sign(w, "x", now, []byte("{}"))
	require.NoError(t, err)
	require.NoError(t, verify(fresh, one))
	require.Error(t, verify(vectorSecret, one))
}

func TestSealing(t *testing.T) {
	first, second := strings.Repeat("11", KeyBytes), strings.Repeat("22", KeyBytes)
	old, err := NewSealer(first)
	require.NoError(t, err)
	both, err := NewSealer(second, first)
	require.NoError(t, err)
	only, err := NewSealer(second)
	require.NoError(t, err)
	sealed := old.Seal("whsec_x")
	require.NotEqual(t, sealed, old.Seal("whsec_x"))
	require.NotContains(t, string(sealed), "whsec")
	for _, s := range []*Sealer{old, both} {
		plain, err := s.Open(sealed)
		require.NoError(t, err)
		require.Equal(t, "whsec_x", plain)
	}
	_, err = only.Open(sealed)
	require.ErrorIs(t, err, errWrongKey)
	for i := range sealed {
		broken := append([]byte{}, sealed...)
		broken[i] ^= 1
		_, err := old.Open(broken)
		require.Error(t, err, "byte %d", i)
		_, err = old.Open(sealed[:i])
		require.Error(t, err, "cut at %d", i)
	}
	var none *Sealer
	_, err = none.Open(sealed)
	require.ErrorIs(t, err, errNoKey)
	for _, bad := range []string{"", "11", strings.Repeat("zz", KeyBytes), strings.Repeat("11", KeyBytes+1)} {
		_, err := NewSealer(bad)
		require.Error(t, err)
		if bad != "" {
			require.NotContains(t, err.Error(), bad)
		}
	}
	one, another := newSecret(), newSecret()
	require.NotEqual(t, one, another)
}

func TestScheduleReachesOverDays(t *testing.T) {
	var sum time.Duration
	for _, d := range Schedule {
		sum += d
		for range 100 {
			j := jittered(d)
			require.GreaterOrEqual(t, j, d*9/10)
			require.Less(t, j, d*11/10)
		}
	}
	require.Greater(t, sum, 60*time.Hour)
	require.Less(t, sum, 80*time.Hour)
}
