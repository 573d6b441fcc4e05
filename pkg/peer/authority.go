// Package peer is host to host: who is a host of the fleet, how one joins, and the road on which requests, state and
// streams go between hosts, which is mutual TLS on one port.
package peer

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"time"

	"github.com/containerd/errdefs"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

const (
	// The authority outlives the machines. A host's certificate is renewed after two thirds of its life, so that servers
	// may be away for a month.
	authorityLife   = 20 * 365 * 24 * time.Hour
	certificateLife = 90 * 24 * time.Hour
	// backdate: clocks of hosts that join may be behind.
	backdate = time.Hour
	// roleServer is the unit of a server's certificate. Only those may talk to the servers of the state as one of them.
	roleServer, roleHost = "server", "host"
	// organization is in every certificate of ours.
	organization = "nereid"
)

// Authority signs the certificates of the fleet's hosts. Its key is on the servers only.
type Authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// newAuthority makes the authority of a new fleet.
func newAuthority(now time.Time) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{Organization: []string{organization}, CommonName: "fleet"},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(authorityLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(raw)
	return &Authority{cert, key}, err
}

func serial() *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		panic(err) // never fails, by crypto/rand's contract
	}
	return n
}

// Subject is whom a certificate is for.
type Subject struct {
	Host   nereid.Host
	Server bool
	IP     net.IP // at which others reach it
}

// sign makes a certificate for a public key, as PEM.
func (a *Authority) sign(s Subject, key crypto.PublicKey, now time.Time) ([]byte, error) {
	role := roleHost
	if s.Server {
		role = roleServer
	}
	template := &x509.Certificate{
		SerialNumber: serial(),
		Subject:      pkix.Name{Organization: []string{organization}, OrganizationalUnit: []string{role}, CommonName: string(s.Host)},
		NotBefore:    now.Add(-backdate), NotAfter: now.Add(certificateLife),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames:    []string{serverName(s.Host)},
	}
	if s.IP != nil {
		template.IPAddresses = []net.IP{s.IP}
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, a.cert, key, a.key)
	if err != nil {
		return nil, fmt.Errorf("sign the certificate of host %q: %w", s.Host, err)
	}
	return encodePEM("CERTIFICATE", raw), nil
}

// signRequest makes a certificate for the key of a request, whose signature it checks: who asks has the key.
func (a *Authority) signRequest(s Subject, csr *x509.CertificateRequest, now time.Time) ([]byte, error) {
	return a.sign(s, csr.PublicKey, now)
}

// parseRequest reads a certificate request and checks that its maker has the key.
func parseRequest(raw []byte) (*x509.CertificateRequest, error) {
	block, _ := pem.Decode(raw)
	if block == nil {
		return nil, errdefs.ErrInvalidArgument.WithMessage("the certificate request is no PEM")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err == nil {
		err = csr.CheckSignature()
	}
	if err != nil {
		return nil, fmt.Errorf("certificate request: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	return csr, nil
}

// serverName is what a host's certificate says and what those who call it want to see: an address may be another's
// tomorrow, a host's name may not.
func serverName(h nereid.Host) string { return string(h) + ".host.nereid" }

// Fingerprint of a public key: SHA-256 of its DER form, in hex.
func fingerprint(key crypto.PublicKey) (string, error) {
	raw, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:]), nil
}

func encodePEM(kind string, raw []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: raw})
}

func encodeKey(key crypto.Signer) ([]byte, error) {
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return encodePEM("PRIVATE KEY", raw), nil
}

func decodeKey(raw []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(raw)
	if block == nil {
		return nil, errors.New("no PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a %T cannot sign", key)
	}
	return signer, nil
}

func decodeCertificate(raw []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(raw)
	if block == nil {
		return nil, errors.New("no PEM")
	}
	return x509.ParseCertificate(block.Bytes)
}
