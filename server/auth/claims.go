package auth

import (
	"slices"
	"time"
)

// claims are a token's claims, well-formed but not yet held against a clock or an issuer.
type claims struct {
	issuer    string
	audience  []string
	user      string
	device    string
	tokenID   string
	expiry    time.Time
	issuedAt  time.Time
	notBefore time.Time // zero if the token has none
}

// parseClaims reads the claims and checks each one's form. Errors are refusals.
func parseClaims(data []byte) (claims, error) {
	set, err := parseObject(data)
	if err != nil {
		return claims{}, errClaims
	}
	var c claims
	var ok bool
	if c.issuer, ok = set.text("iss"); !ok {
		return claims{}, errIssuer
	}
	if c.audience, ok = set.texts("aud"); !ok {
		return claims{}, errAudience
	}
	if c.user, ok = set.text("sub"); !ok || !ValidID(c.user) {
		return claims{}, errSubject
	}
	if c.device, ok = set.text("did"); !ok || !ValidID(c.device) {
		return claims{}, errDevice
	}
	if c.expiry, ok = set.instant("exp"); !ok {
		return claims{}, errExpiry
	}
	if c.issuedAt, ok = set.instant("iat"); !ok {
		return claims{}, errIssuedAt
	}
	if c.notBefore, ok = set.instant("nbf"); !ok && set.has("nbf") {
		return claims{}, errNotBefore
	}
	if c.tokenID, ok = set.text("jti"); (!ok && set.has("jti")) || len(c.tokenID) > MaxTokenIDBytes {
		return claims{}, errTokenID
	}
	return c, nil
}

// check holds the claims of a token with a good signature against what is expected at now. Expiry comes last, so that
// TOKEN_EXPIRED means that nothing else is wrong. Errors are refusals.
func (c *claims) check(now time.Time, audience string, maxLifetime time.Duration) error {
	switch {
	case !slices.Contains(c.audience, audience):
		return errAudience
	case !c.expiry.After(c.issuedAt), c.expiry.Sub(c.issuedAt) > maxLifetime:
		return errLifetime
	case c.issuedAt.After(now.Add(Leeway)):
		return errFromFuture
	case c.notBefore.After(now.Add(Leeway)):
		return errNotYet
	case !now.Before(c.expiry.Add(Leeway)):
		return errExpired
	default:
		return nil
	}
}

// validFrom is the first instant at which check accepts the claims' times.
func (c *claims) validFrom() time.Time {
	from := c.issuedAt
	if c.notBefore.After(from) {
		from = c.notBefore
	}
	return from.Add(-Leeway)
}
