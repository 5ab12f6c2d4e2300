package auth

import "strings"

// Bearer returns the token or API key of an Authorization header's value (RFC 6750, section 2.1): what follows the
// scheme "Bearer", in any case of letters, and one or more spaces. It is empty if the value is empty or of another
// scheme, which Verify answers with TOKEN_MISSING. Nothing behind the scheme is trimmed or checked.
func Bearer(authorization string) string {
	scheme, credentials, ok := strings.Cut(authorization, " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimLeft(credentials, " ")
}
