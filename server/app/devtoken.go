package app

import (
	"encoding/json"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/device"
)

// devTokenPath is where the page of a development server gets tokens.
const devTokenPath = "/dev/token"

// maxDevTokenBytes bounds a request for a token.
const maxDevTokenBytes = 1 << 10

// devName is what users and devices of a development server may be called.
var devName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// devTokens gives a token for any user and device to whoever asks from this machine. `parley run` alone has it: it lets
// the built-in page sign in without a secret in the page.
//
// Pages of other origins must not get one through the user's browser. They cannot send JSON without a preflight, which is
// refused; and names that resolve to this machine are not taken for it (DNS rebinding).
type devTokens struct {
	tokens *device.Tokens
	next   http.Handler
}

func (d *devTokens) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != devTokenPath {
		d.next.ServeHTTP(w, r)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch {
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "Ask by POST.", http.StatusMethodNotAllowed)
		return
	case !fromHere(r):
		http.Error(w, "Only for pages of this server, on this machine.", http.StatusForbidden)
		return
	case kind != "application/json":
		http.Error(w, "Ask in JSON.", http.StatusUnsupportedMediaType)
		return
	}
	var ask struct {
		UserID   string `json:"userId"`
		DeviceID string `json:"deviceId"`
	}
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxDevTokenBytes)).Decode(&ask)
	if err != nil || !devName.MatchString(ask.UserID) || !devName.MatchString(ask.DeviceID) {
		http.Error(w, "Names are 1 to 64 letters, digits, dots, dashes and underscores.", http.StatusBadRequest)
		return
	}
	token, err := d.tokens.Create(r.Context(), ask.UserID, ask.DeviceID, device.Platform(parleyv1.DevicePlatform_DEVICE_PLATFORM_WEB), 0)
	if err != nil {
		http.Error(w, "There is no token for this user and device.", http.StatusConflict)
		return
	}
	answer, err := json.Marshal(map[string]string{"token": token.Text})
	if err != nil {
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(answer) // whoever left needs none
}

// fromHere tells whether a request came over loopback, to a name of this machine, and not for a page of another origin.
func fromHere(r *http.Request) bool {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !peer.Addr().Unmap().IsLoopback() || !isLoopbackName(r.Host) {
		return false
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && u.Host == r.Host
}

func isLoopbackName(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}
