package stack

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// Contention asks the server what its goroutines wait for during the next d, and returns its answer as text. The server
// must have been started here: its admin listener is known then.
func (s *Stack) Contention(ctx context.Context, d time.Duration) (string, error) {
	url := "http://" + s.ops + "/debug/contention?for=" + d.String()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close() //nolint:errcheck // it was read
	text, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("the server's contention: HTTP %d: %s", res.StatusCode, strings.TrimSpace(string(text)))
	}
	return string(text), err
}
