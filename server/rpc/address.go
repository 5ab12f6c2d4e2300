package rpc

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"connectrpc.com/connect"
)

// Addresses decides whether one more request of an address is served.
type Addresses interface {
	// Admit returns nil or a refusal. network is an IPv4 address or an IPv6 /64, in its canonical form. Safe for concurrent
	// use.
	Admit(ctx context.Context, network string) error
}

// Proxies are the networks whose connections and requests speak for others: load balancers, and the own machine. They are
// not bounded as an address is, and who they speak for is read from X-Forwarded-For.
type Proxies []netip.Prefix

// ParseProxies reads networks such as 10.0.0.0/8, and single addresses.
func ParseProxies(list []string) (Proxies, error) {
	out := make(Proxies, 0, len(list))
	for _, text := range list {
		p, err := netip.ParsePrefix(text)
		if a, single := netip.ParseAddr(text); single == nil {
			p, err = a.Prefix(a.BitLen())
		}
		if err != nil {
			return nil, fmt.Errorf("%q is no network such as 10.0.0.0/8", text)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

func (p Proxies) contain(a netip.Addr) bool {
	for _, n := range p {
		if n.Contains(a) {
			return true
		}
	}
	return false
}

// client returns who a request comes from: the connection's peer or, behind proxies, the last address of X-Forwarded-For
// that is none. It is false where only proxies have spoken, as for those on the own machine.
func (p Proxies) client(r *http.Request) (netip.Addr, bool) {
	peer := addrOf(r.RemoteAddr)
	if !peer.IsValid() || !p.contain(peer) {
		return peer, peer.IsValid()
	}
	lines := r.Header.Values("X-Forwarded-For")
	for i := len(lines) - 1; i >= 0; i-- {
		rest := lines[i]
		for more := true; more; {
			var last string
			if comma := strings.LastIndexByte(rest, ','); comma >= 0 {
				rest, last = rest[:comma], rest[comma+1:]
			} else {
				last, more = rest, false
			}
			a := addrOf(strings.TrimSpace(last))
			if !a.IsValid() {
				return netip.Addr{}, false // what stands before it was not written by a proxy of ours
			}
			if !p.contain(a) {
				return a, true
			}
		}
	}
	return netip.Addr{}, false
}

// addrOf reads an address, with a port or without; the zero Addr for what is none.
func addrOf(text string) netip.Addr {
	if host, _, err := net.SplitHostPort(text); err == nil {
		text = host
	}
	a, err := netip.ParseAddr(strings.Trim(text, "[]"))
	if err != nil {
		return netip.Addr{}
	}
	return a.Unmap().WithZone("")
}

// networkOf is what counts as one address: whoever has an IPv6 address has its whole /64.
func networkOf(a netip.Addr) string {
	if a.Is4() {
		return a.String()
	}
	p, _ := a.Prefix(64) // fails for more bits than the address has only
	return p.String()
}

// addressed refuses requests of addresses that make too many, before anything else is done for them.
type addressed struct {
	next    http.Handler
	admit   Addresses
	proxies Proxies
}

func (h *addressed) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	client, known := h.proxies.client(r)
	if !known {
		h.next.ServeHTTP(w, r)
		return
	}
	err := h.admit.Admit(r.Context(), networkOf(client))
	passed(r.Context(), err == nil)
	if err != nil {
		refuse(w, r, err)
		return
	}
	h.next.ServeHTTP(w, r)
}

// refuse answers a request that nobody has looked at, in the form that its client expects.
func refuse(w http.ResponseWriter, r *http.Request, err error) {
	ctx := r.Context()
	c := callFrom(ctx)
	v := judge(ctx, err)
	c.answered(ctx, v, err)
	out := connect.NewErrorWriter()
	if !strings.HasPrefix(r.URL.Path, "/v1/") && out.IsSupported(r) {
		_ = out.Write(w, r, v.wireError())
		return
	}
	writeStatus(w, httpStatus(v.code), v)
}
