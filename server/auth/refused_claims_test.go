package auth_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/parley-im/parley/server/refusal"
)

// nullJSON is null in JSON, where nil would mean to leave the member out.
type nullJSON struct{}

func (nullJSON) MarshalJSON() ([]byte, error) { return []byte("null"), nil }

func badClaims(t *testing.T, b *bench) []refused {
	t.Helper()
	const aud, iss, sub, did, jti = "aud is missing", "iss is missing", "sub is missing", "did is missing", "jti is not"
	var cases []refused
	change := func(claim, text string, values map[string]any) {
		for name, value := range values {
			cases = append(cases, bad(claim+" "+name, b.ed.token(t, b.oneClaims.with(claim, value)), text))
		}
	}
	change("iss", iss, map[string]any{
		"missing": nil, "null": nullJSON{}, "empty": "", "of a stranger": "https://evil.example", "number": 1,
		"array": []string{issuerOne}, "with a slash behind": issuerOne + "/", "in capitals": strings.ToUpper(issuerOne),
		"with a space behind": issuerOne + " ",
	})
	change("aud", aud, map[string]any{
		"missing": nil, "null": nullJSON{}, "empty": "", "of another": "payments", "empty array": []string{}, "number": 1,
		"array of others": []string{"web", "payments"}, "array with a number": []any{"parley", 1}, "object": members{"parley": 1},
		"array with null": []any{"parley", nil}, "nested array": []any{[]string{"parley"}}, "in capitals": "PARLEY",
		"two in one string": "parley web", "with more behind": "parley2",
	})
	ids := map[string]any{
		"missing": nil, "null": nullJSON{}, "empty": "", "number": 7, "array": []string{"alice"}, "of 65 bytes": strings.Repeat("a", 65),
		"of 66 bytes in 33 letters": strings.Repeat("é", 33), "with a line end": "a\nb", "with NUL": "a\x00", "with DEL": "a\x7f",
		"with a C1 control": "a\u0085", "bool": true,
	}
	change("sub", sub, ids)
	change("did", did, ids)
	change("jti", jti, map[string]any{"null": nullJSON{}, "number": 1, "of 257 bytes": strings.Repeat("j", 257)})
	return cases
}

func badTimes(t *testing.T, b *bench) []refused {
	t.Helper()
	cases := []refused{
		{"expired", b.ed.token(t, b.oneClaims.with("exp", start.Unix()-3600, "iat", start.Unix()-7200)), refusal.TokenExpired, "has expired"},
		{"expired in 1970", b.ed.token(t, b.oneClaims.with("exp", 1, "iat", 0)), refusal.TokenExpired, "has expired"},
		bad("expired and for another audience", b.ed.token(t, b.oneClaims.with("exp", start.Unix()-60, "aud", "x")), "aud"),
		bad("expired and badly signed", b.other.forge(t, b.ed.header(), b.oneClaims.with("exp", start.Unix()-60)), "signature"),
		bad("exp at iat", b.ed.token(t, b.oneClaims.with("exp", start.Unix(), "iat", start.Unix())), "exp is not after its iat"),
		bad("exp before iat", b.ed.token(t, b.oneClaims.with("iat", start.Unix()+10, "exp", start.Unix()+5)), "exp is not after its iat"),
		bad("lifetime over 30 days", b.ed.token(t, b.oneClaims.with("iat", start.Unix(), "exp", start.Unix()+30*86400+1)), "longest lifetime"),
		bad("exp in the year 9999", b.ed.token(t, b.oneClaims.with("exp", 253402300799)), "longest lifetime"),
		bad("iat in the future", b.ed.token(t, b.oneClaims.with("iat", start.Unix()+3600, "exp", start.Unix()+7200)), "iat is in the future"),
		bad("nbf in the future", b.ed.token(t, b.oneClaims.with("nbf", start.Unix()+3600)), "not valid yet"),
	}
	for claim, text := range map[string]string{"exp": "exp is missing or not", "iat": "iat is missing or not", "nbf": "nbf is not a time"} {
		values := map[string]any{
			"null": nullJSON{}, "string": strconv.FormatInt(start.Unix(), 10), "RFC 3339": start.Format(time.RFC3339), "true": true,
			"array": []int64{start.Unix()}, "object": members{}, "negative": -1, "huge": 1e30, "beyond a double": rawNumber("1e400"),
			"beyond 64 bits": rawNumber("18446744073709551617"), "after 9999": 253402300800, "in milliseconds": start.UnixMilli() * 1000,
			"minus zero point one": rawNumber("-0.1"), "empty string": "",
		}
		if claim != "nbf" {
			values["missing"] = nil
		}
		for name, value := range values {
			cases = append(cases, bad(claim+" "+name, b.ed.token(t, b.oneClaims.with(claim, value)), text))
		}
	}
	return cases
}

// rawNumber is a number whose text JSON's encoder would not choose.
type rawNumber string

func (n rawNumber) MarshalJSON() ([]byte, error) { return []byte(n), nil }

func badJSON(t *testing.T, b *bench) []refused {
	t.Helper()
	claims, header := string(encode(t, b.oneClaims)), string(encode(t, b.ed.header()))
	// Two readers could disagree on each of these.
	broken := map[string]func(good, first string) string{
		"trailing data":         func(good, _ string) string { return good + "{}" },
		"trailing letter":       func(good, _ string) string { return good + "x" },
		"trailing NUL":          func(good, _ string) string { return good + "\x00" },
		"cut off":               func(good, _ string) string { return good[:len(good)-1] },
		"array around":          func(good, _ string) string { return "[" + good + "]" },
		"null":                  func(string, string) string { return "null" },
		"string":                func(string, string) string { return `"a.b"` },
		"number":                func(string, string) string { return "1" },
		"byte order mark":       func(good, _ string) string { return "\ufeff" + good },
		"comment":               func(good, _ string) string { return "/**/" + good },
		"trailing comma":        func(good, _ string) string { return good[:len(good)-1] + ",}" },
		"single quotes":         func(good, _ string) string { return strings.ReplaceAll(good, `"`, `'`) },
		"duplicate, same value": func(good, first string) string { return "{" + first + "," + good[1:] },
		"duplicate, escaped": func(good, first string) string {
			return "{" + fmt.Sprintf(`"\u%04x`, first[1]) + first[2:] + "," + good[1:]
		},
		"invalid UTF-8":        func(good, _ string) string { return good[:len(good)-1] + ",\"x\":\"\xff\"}" },
		"unpaired high half":   func(good, _ string) string { return good[:len(good)-1] + `,"x":"\ud800"}` },
		"unpaired low half":    func(good, _ string) string { return good[:len(good)-1] + `,"x":"\udc00"}` },
		"high half twice":      func(good, _ string) string { return good[:len(good)-1] + `,"x":"\ud800\ud800"}` },
		"low half twice":       func(good, _ string) string { return good[:len(good)-1] + `,"x":"\udc00\udc00"}` },
		"high half and letter": func(good, _ string) string { return good[:len(good)-1] + `,"x":"\ud800abcdef"}` },
		"half in a name":       func(good, _ string) string { return good[:len(good)-1] + `,"\ud800":1}` },
	}
	var cases []refused
	for name, f := range broken {
		cases = append(cases,
			bad("claims: "+name, b.ed.token(t, f(claims, `"sub":"mallory"`)), "claims are not"),
			bad("header: "+name, b.ed.forge(t, f(header, `"alg":"none"`), b.oneClaims), "header is not"))
	}
	return append(cases,
		bad("duplicate exp", b.ed.token(t, fmt.Sprintf(`{"exp":%d,%s`, start.Unix()+9999, claims[1:])), "claims are not"),
		bad("claims in other letters", b.ed.token(t, strings.Replace(claims, `"exp"`, `"EXP"`, 1)), "exp is missing"),
		bad("half a pair in the user id", b.ed.token(t, strings.Replace(claims, `"alice"`, `"\udfff"`, 1)), "claims are not"),
		bad("claims deeply nested", b.ed.token(t, strings.Repeat("[", 2000)), "claims are not"),
		bad("nested token", b.ed.token(t, "eyJhbGciOiJub25lIn0.e30."), "claims are not"))
}
