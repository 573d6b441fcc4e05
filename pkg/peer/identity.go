package peer

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// Files of an identity, below its directory.
const (
	fileCA       = "ca.crt"
	fileCAKey    = "ca.key" // servers only
	fileCert     = "host.crt"
	fileKey      = "host.key"
	fileGossip   = "gossip.key"
	fileStanding = "fleet.json"
)

// gossipKeyBytes selects AES-256.
const gossipKeyBytes = 32

// Standing is what a host must remember of the fleet to find it again.
type Standing struct {
	Joined bool // came by a join: false on the fleet's first host
	Server bool
	// Servers are where the state's servers were when it joined, host by URL, itself among them. Servers only.
	Servers []ServerAddress
	// Endpoints are where they were when last heard of.
	Endpoints []string
	// Open has the host listen for others: somebody may join, or has.
	Open bool
	// Others are ADDR:PORT of other hosts' gossip.
	Others []string
}

// ServerAddress is one server of the state.
type ServerAddress struct {
	Host nereid.Host
	Peer string // URL
}

// Identity is this host's certificate, the fleet's authority, and what it remembers of the fleet. All methods may be
// called at once.
type Identity struct {
	dir  string
	host nereid.Host
	key  crypto.Signer

	mu        sync.RWMutex
	authority *Authority // its key is nil on hosts that are no servers
	cert      *tls.Certificate
	leaf      *x509.Certificate
	gossip    []byte
	standing  Standing
}

// Load reads the identity in a directory; fs.ErrNotExist where there is none.
func Load(dir string, host nereid.Host) (*Identity, error) {
	id := &Identity{dir: dir, host: host}
	raw, err := os.ReadFile(id.path(fileStanding))
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(raw, &id.standing); err != nil {
		return nil, id.damaged(fileStanding, err)
	}
	if err := id.loadKey(); err != nil {
		return nil, err
	}
	if err := id.loadAuthority(); err != nil {
		return nil, err
	}
	if id.gossip, err = os.ReadFile(id.path(fileGossip)); err != nil {
		return nil, err
	}
	cert, err := os.ReadFile(id.path(fileCert))
	if err != nil {
		return nil, err
	}
	if err := id.use(cert); err != nil {
		return nil, id.damaged(fileCert, err)
	}
	if id.leaf.Subject.CommonName != string(host) {
		return nil, fmt.Errorf("this host joined the fleet as %q: start it with that --name", id.leaf.Subject.CommonName)
	}
	return id, nil
}

// Found makes the identity of the first host of a new fleet.
func Found(dir string, host nereid.Host, ip net.IP) (*Identity, error) {
	id, err := begin(dir, host)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	if id.authority, err = newAuthority(now); err != nil {
		return nil, err
	}
	cert, err := id.authority.sign(Subject{Host: host, Server: true, IP: ip}, id.key.Public(), now)
	if err != nil {
		return nil, err
	}
	id.gossip = make([]byte, gossipKeyBytes)
	rand.Read(id.gossip) // never fails, by its contract
	if err := id.use(cert); err != nil {
		return nil, err
	}
	id.standing = Standing{Server: true}
	return id, id.save(cert)
}

// begin makes the directory and the host's key, or takes the key of a join that was cut short.
func begin(dir string, host nereid.Host) (*Identity, error) {
	id := &Identity{dir: dir, host: host}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	err := id.loadKey()
	if !errors.Is(err, fs.ErrNotExist) {
		return id, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	raw, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	id.key = key
	return id, id.write(fileKey, raw)
}

func (id *Identity) loadKey() error {
	raw, err := os.ReadFile(id.path(fileKey))
	if err != nil {
		return err
	}
	if id.key, err = decodeKey(raw); err != nil {
		return id.damaged(fileKey, err)
	}
	return nil
}

func (id *Identity) loadAuthority() error {
	raw, err := os.ReadFile(id.path(fileCA))
	if err != nil {
		return err
	}
	cert, err := decodeCertificate(raw)
	if err != nil {
		return id.damaged(fileCA, err)
	}
	id.authority = &Authority{cert: cert}
	raw, err = os.ReadFile(id.path(fileCAKey))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if id.authority.key, err = decodeKey(raw); err != nil {
		return id.damaged(fileCAKey, err)
	}
	return nil
}

func (id *Identity) damaged(file string, why error) error {
	return fmt.Errorf("%s is damaged: %w", id.path(file), why)
}

func (id *Identity) path(file string) string { return filepath.Join(id.dir, file) }

// use takes a certificate for this host's key into use.
func (id *Identity) use(cert []byte) error {
	leaf, err := decodeCertificate(cert)
	if err != nil {
		return err
	}
	id.mu.Lock()
	defer id.mu.Unlock()
	// The authority goes with it, for hosts that know its hash only.
	id.cert = &tls.Certificate{Certificate: [][]byte{leaf.Raw, id.authority.cert.Raw}, PrivateKey: id.key, Leaf: leaf}
	id.leaf = leaf
	return nil
}

// save writes all files; the standing last, which makes them an identity.
func (id *Identity) save(cert []byte) error {
	files := []struct {
		name string
		body []byte
	}{
		{fileCA, encodePEM("CERTIFICATE", id.authority.cert.Raw)}, {fileCert, cert}, {fileGossip, id.gossip},
	}
	for _, f := range files {
		if err := id.write(f.name, f.body); err != nil {
			return err
		}
	}
	if id.authority.key != nil {
		raw, err := encodeKey(id.authority.key)
		if err != nil {
			return err
		}
		if err := id.write(fileCAKey, raw); err != nil {
			return err
		}
	}
	return id.Remember(func(*Standing) {})
}

// write replaces a file as a whole.
func (id *Identity) write(file string, body []byte) error {
	tmp := id.path(file) + ".new"
	if err := os.WriteFile(tmp, body, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, id.path(file))
}

// Remember changes the standing and keeps it over restarts.
func (id *Identity) Remember(change func(*Standing)) error {
	id.mu.Lock()
	defer id.mu.Unlock()
	change(&id.standing)
	raw, err := json.MarshalIndent(id.standing, "", "  ")
	if err != nil {
		return err
	}
	return id.write(fileStanding, raw)
}

// Standing is a copy.
func (id *Identity) Standing() Standing {
	id.mu.RLock()
	defer id.mu.RUnlock()
	return id.standing
}

// Host is this host.
func (id *Identity) Host() nereid.Host { return id.host }

// GossipKey encrypts the gossip of the fleet.
func (id *Identity) GossipKey() []byte { return id.gossip }

// Fingerprint of this host's key.
func (id *Identity) Fingerprint() (string, error) { return fingerprint(id.key.Public()) }

// Token gives a secret the form in which a host that joins wants it.
func (id *Identity) Token(secret string) string { return tokenFor(id.authority.cert, secret) }

// CertFile, KeyFile and CAFile are for those who read files.
func (id *Identity) CertFile() string { return id.path(fileCert) }

// KeyFile is the key of CertFile.
func (id *Identity) KeyFile() string { return id.path(fileKey) }

// CAFile is the authority's certificate.
func (id *Identity) CAFile() string { return id.path(fileCA) }

// current is the certificate in use.
func (id *Identity) current() *tls.Certificate {
	id.mu.RLock()
	defer id.mu.RUnlock()
	return id.cert
}

func (id *Identity) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(id.authority.cert)
	return p
}

// serverTLS is for those who listen: clients of the fleet show a certificate; who joins has none yet.
func (id *Identity) serverTLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{"h2", "http/1.1"}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: id.pool(),
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return id.current(), nil },
	}
}

// ClientTLS is for those who call any host, found by its address.
func (id *Identity) ClientTLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: id.pool(),
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return id.current(), nil },
	}
}

// hostTLS is for those who call one host, wherever it is.
func (id *Identity) hostTLS(h nereid.Host) *tls.Config {
	c := id.ClientTLS()
	c.ServerName = serverName(h)
	return c
}
