package webhook

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"syscall"

	"github.com/parley-im/parley/server/refusal"
)

// errDenied is the dialler's refusal of an address.
var errDenied = errors.New("webhooks may not go to this address")

// special are the IPv4 blocks that are not the public internet: IANA's special-purpose registry (RFC 6890 and its updates),
// multicast and the reserved last block.
var special = prefixes("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
	"192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15",
	"198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4")

// Of IPv6 only global unicast addresses are good, which leaves out loopback, link-local, unique local, multicast,
// IPv4-mapped and NAT64 (64:ff9b::/96) ones; and of those not the special ones: protocol assignments with Teredo,
// documentation, 6to4, direct delegation.
var (
	globalV6  = prefixes("2000::/3")
	specialV6 = prefixes("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20")
)

func prefixes(list ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(list))
	for i, p := range list {
		out[i] = netip.MustParsePrefix(p)
	}
	return out
}

func within(a netip.Addr, list []netip.Prefix) bool {
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// Addresses decides where webhooks may go. The zero value lets them go to the public internet by https.
type Addresses struct {
	Allowed   []netip.Prefix // beside the public internet
	AllowHTTP bool
}

// ParseAddresses reads prefixes such as 10.1.0.0/16.
func ParseAddresses(cidrs []string, allowHTTP bool) (Addresses, error) {
	out := Addresses{AllowHTTP: allowHTTP}
	for _, c := range cidrs {
		p, err := netip.ParsePrefix(c)
		if err != nil || p.Masked() != p || p.Addr().Is4In6() {
			return out, fmt.Errorf("%q is no prefix such as 10.1.0.0/16", c)
		}
		out.Allowed = append(out.Allowed, p)
	}
	return out, nil
}

// permits decides about an address as it is dialled. An IPv4 address in IPv6 form counts as the IPv4 address that the
// machine would reach by it; one with a zone is denied.
func (a Addresses) permits(ip netip.Addr) bool {
	if !ip.IsValid() || ip.Zone() != "" {
		return false
	}
	ip = ip.Unmap()
	if within(ip, a.Allowed) {
		return true
	}
	if ip.Is4() {
		return !within(ip, special)
	}
	return within(ip, globalV6) && !within(ip, specialV6)
}

// control is net.Dialer.Control: it sees the address after resolution, of each connection, so that no name can mean another
// one than was looked at.
func (a Addresses) control(network, address string, _ syscall.RawConn) error {
	if network != "tcp4" && network != "tcp6" {
		return errDenied
	}
	ap, err := netip.ParseAddrPort(address)
	if err != nil || !a.permits(ap.Addr()) {
		return errDenied
	}
	return nil
}

// checkURL refuses what cannot be a webhook's URL. Where its name leads is decided when it is dialled; a literal address is
// looked at here too.
func (a Addresses) checkURL(raw string) error {
	bad := func(rule, text string) error {
		return refusal.New(refusal.InvalidField, text, "field", "url", "rule", rule)
	}
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.Hostname() == "" || u.Opaque != "" || len(raw) > 2048 {
		return bad("url", "This is no absolute URL.")
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !a.AllowHTTP) {
		return bad("scheme", "Webhooks go to https URLs.")
	}
	if u.User != nil || u.Fragment != "" {
		return bad("parts", "A webhook's URL has no user, password or fragment.")
	}
	if ip, err := netip.ParseAddr(u.Hostname()); err == nil && !a.permits(ip) {
		return bad("address", "Webhooks may not go to this address.")
	}
	return nil
}
