package peer

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base32"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
)

// tokenPrefix marks join tokens and their layout: the hash of the authority, and a secret.
const tokenPrefix = "NRTKN-1-"

// secretBytes of a token: nobody guesses 128 bits.
const secretBytes = 16

var tokenEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// token lets a host in: by the hash it knows whom it talks to, by the secret it is known.
type token struct {
	authority [sha256.Size]byte
	secret    string
}

func (t token) String() string {
	return tokenPrefix + tokenEncoding.EncodeToString(t.authority[:]) + "-" + t.secret
}

func parseToken(s string) (token, error) {
	var t token
	rest, ok := strings.CutPrefix(strings.TrimSpace(s), tokenPrefix)
	hash, secret, ok2 := strings.Cut(rest, "-")
	raw, err := tokenEncoding.DecodeString(hash)
	if !ok || !ok2 || err != nil || len(raw) != len(t.authority) || secret == "" {
		return t, errdefs.ErrInvalidArgument.WithMessage("not a join token: `nereid token` on a host of the fleet prints one")
	}
	copy(t.authority[:], raw)
	t.secret = secret
	return t, nil
}

// NewSecret mints the secret of a token.
func NewSecret() string {
	raw := make([]byte, secretBytes)
	rand.Read(raw) // never fails, by its contract
	return tokenEncoding.EncodeToString(raw)
}

// HashSecret is what the state keeps of a secret.
func HashSecret(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// CheckToken tells whether a string is a join token.
func CheckToken(s string) error {
	_, err := parseToken(s)
	return err
}

// Token is what a host that is to join is given: see Identity.Token.
func tokenFor(authority *x509.Certificate, secret string) string {
	return token{sha256.Sum256(authority.Raw), secret}.String()
}

func (t token) matches(cert *x509.Certificate) bool { return sha256.Sum256(cert.Raw) == t.authority }

func errWrongFleet(addr string) error {
	return fmt.Errorf("who answers at %s is not of the fleet that the token is for: %w", addr, errdefs.ErrPermissionDenied)
}
