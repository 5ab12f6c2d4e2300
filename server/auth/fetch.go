package auth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

const (
	// maxRedirects is the number of redirects that one reading follows.
	maxRedirects = 3
	// maxHeaderBytes bounds the header of the key server's answer.
	maxHeaderBytes = 64 << 10
)

// fetcher reads one JWKS document over HTTP. A reading fails on any status but 200, a document over MaxKeySetBytes, a
// redirect to another host, port or scheme, more than maxRedirects of them, an answer that is not complete within the
// timeout, and what ParseKeySet refuses. A set without a usable key is no failure: an issuer may withdraw all its keys.
type fetcher struct {
	address *url.URL
	timeout time.Duration
	client  *http.Client
}

func newFetcher(address *url.URL, timeout time.Duration, transport http.RoundTripper) *fetcher {
	if transport == nil {
		transport = newTransport()
	}
	return &fetcher{
		address: address, timeout: timeout,
		client: &http.Client{Transport: transport, CheckRedirect: func(next *http.Request, before []*http.Request) error {
			if len(before) > maxRedirects {
				return errors.New("too many redirects")
			}
			if next.URL.Host != address.Host || next.URL.Scheme != address.Scheme {
				return errors.New("redirect to another host")
			}
			return nil
		}},
	}
}

func newTransport() http.RoundTripper {
	transport, ok := http.DefaultTransport.(*http.Transport)
	if !ok { // Somebody replaced it on purpose, with a tracing one for example.
		return http.DefaultTransport
	}
	own := transport.Clone()
	own.MaxResponseHeaderBytes = maxHeaderBytes
	own.MaxIdleConnsPerHost = 1
	return own
}

func (f *fetcher) read(ctx context.Context) (*KeySet, error) {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.address.String(), http.NoBody)
	if err != nil {
		return nil, withoutURL(err)
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	res, err := f.client.Do(req)
	if err != nil {
		return nil, withoutURL(err)
	}
	defer res.Body.Close() //nolint:errcheck // nothing was written.
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the key server answered with status %d", res.StatusCode)
	}
	document, err := io.ReadAll(io.LimitReader(res.Body, MaxKeySetBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read the key set: %w", withoutURL(err))
	}
	return ParseKeySet(document)
}

// close gives idle connections back.
func (f *fetcher) close() { f.client.CloseIdleConnections() }

// withoutURL takes the URL out of the client's error: its query can hold a secret.
func withoutURL(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		return wrapped.Err
	}
	return err
}

func isLoopback(address *url.URL) bool {
	host := address.Hostname()
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}
