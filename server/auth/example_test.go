package auth_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/parley-im/parley/server/auth"
)

// A server that mints tokens itself, and accepts them.
func Example() {
	dir, err := os.MkdirTemp("", "parley")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir) //nolint:errcheck // the system clears its temporary files.

	signer, err := auth.LoadOrCreateSigner(filepath.Join(dir, "signing.pem"), auth.SignerConfig{Issuer: "parley", Audience: "parley"})
	if err != nil {
		fmt.Println(err)
		return
	}
	verifier, err := auth.NewVerifier(auth.VerifierConfig{Issuers: []auth.Issuer{signer.AsIssuer()}})
	if err != nil {
		fmt.Println(err)
		return
	}
	token, _, err := signer.Mint("alice", "phone", time.Hour)
	if err != nil {
		fmt.Println(err)
		return
	}
	caller, err := verifier.Verify(context.Background(), auth.Bearer("Bearer "+token))
	fmt.Println(caller.UserID, caller.DeviceID, err)
	_, err = verifier.Verify(context.Background(), "not a token")
	fmt.Println(err)
	// Output:
	// alice phone <nil>
	// TOKEN_INVALID: The token is not a JWS in compact form.
}
