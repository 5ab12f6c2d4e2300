package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jonboulle/clockwork"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

const (
	// AttemptTimeout bounds one delivery's request, from the look-up of the name to the end of the answer.
	AttemptTimeout = 10 * time.Second
	// MaxAnswerBytes is how much of an answer is read where it is wanted, and maxIgnored where it is not.
	MaxAnswerBytes = 64 << 10
	maxIgnored     = 4 << 10
	maxHeaderBytes = 16 << 10
)

// Sender makes signed requests. Safe for concurrent use.
type Sender struct {
	client *http.Client
	sealer *Sealer
	clock  clockwork.Clock
	agent  string
}

// NewSender returns a sender that reaches only permitted addresses, follows no redirect and uses no proxy. sealer may be
// nil: then no request can be signed, and every attempt fails with ErrSecret.
func NewSender(permitted Addresses, sealer *Sealer, clock clockwork.Clock, version string) *Sender {
	dialer := &net.Dialer{Timeout: 5 * time.Second, Control: permitted.control}
	tr := &http.Transport{DialContext: dialer.DialContext, Proxy: nil, ForceAttemptHTTP2: true, DisableCompression: true,
		TLSHandshakeTimeout: 5 * time.Second, MaxResponseHeaderBytes: maxHeaderBytes, MaxIdleConns: 64, MaxIdleConnsPerHost: MaxInFlight,
		MaxConnsPerHost: 128, IdleConnTimeout: 30 * time.Second, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}}
	return &Sender{sealer: sealer, clock: clock, agent: "Parley/" + version, client: &http.Client{Transport: tr,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// Close lets go of idle connections.
func (s *Sender) Close() { s.client.CloseIdleConnections() }

// sign returns the header webhook-signature: one signature per secret in use, the present one first.
func (s *Sender) sign(w Webhook, id string, at time.Time, body []byte) (string, error) {
	sealed := [][]byte{w.Secret}
	if w.OldSecret != nil && w.OldSecretUntil != nil && at.Before(*w.OldSecretUntil) {
		sealed = append(sealed, w.OldSecret)
	}
	signatures := make([]string, len(sealed))
	for i, b := range sealed {
		secret, err := s.sealer.Open(b)
		if err != nil {
			return "", err
		}
		signer, err := standardwebhooks.NewWebhook(secret)
		if err != nil {
			return "", err
		}
		if signatures[i], err = signer.Sign(id, at, body); err != nil {
			return "", err
		}
	}
	return strings.Join(signatures, " "), nil
}

// Post makes one request and tells what came of it. answer is what was answered with a 2xx status, where it is wanted.
func (s *Sender) Post(ctx context.Context, w Webhook, id uuid.UUID, body []byte, wanted bool) (a Attempt, answer []byte) {
	a.At = s.clock.Now()
	defer func() { a.Took = s.clock.Since(a.At) }()
	signature, err := s.sign(w, id.String(), a.At, body)
	if err != nil {
		a.Error = ErrSecret
		return a, nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.URL, bytes.NewReader(body))
	if err != nil {
		a.Error = ErrProtocol
		return a, nil
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", s.agent)
	req.Header.Set(standardwebhooks.HeaderWebhookID, id.String())
	req.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(a.At.Unix(), 10))
	req.Header.Set(standardwebhooks.HeaderWebhookSignature, signature)
	res, err := s.client.Do(req)
	if err != nil {
		a.Error = classify(err)
		return a, nil
	}
	defer func() { _ = res.Body.Close() }()
	a.Status = res.StatusCode
	switch {
	case res.StatusCode >= 300 && res.StatusCode < 400:
		a.Error = ErrRedirect
	case res.StatusCode < 200 || res.StatusCode > 299:
		a.Error = ErrStatus
	}
	if a.Error != "" || !wanted {
		_, _ = io.CopyN(io.Discard, res.Body, maxIgnored) // so that the connection can be used again
		return a, nil
	}
	answer, err = io.ReadAll(io.LimitReader(res.Body, MaxAnswerBytes+1))
	if err != nil {
		a.Error = classify(err)
	} else if len(answer) > MaxAnswerBytes {
		a.Error = ErrProtocol
	}
	return a, answer
}

func classify(err error) string {
	var dns *net.DNSError
	var cert *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var alert tls.AlertError
	var op *net.OpError
	var ne net.Error
	switch {
	case errors.Is(err, errDenied):
		return ErrDenied
	case errors.As(err, &cert), errors.As(err, &record), errors.As(err, &alert):
		return ErrTLS
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &ne) && ne.Timeout():
		return ErrTimeout
	case errors.As(err, &dns):
		return ErrDNS
	case errors.As(err, &op), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return ErrConnect
	default:
		return ErrProtocol
	}
}
