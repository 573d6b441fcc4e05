package image

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Docker Hub's names: what references call it, and where its registry answers.
const (
	hubDomain = "docker.io"
	hubHost   = "registry-1.docker.io"
)

const (
	dialTimeout = 30 * time.Second
	pingTimeout = 15 * time.Second
)

// endpoint is one place a registry may answer at.
type endpoint struct {
	url      url.URL
	insecure bool // certificates are not checked
	certs    string
	mirror   bool
}

// endpoints lists where a registry may answer, in the order to try. Only insecure registries are tried in plain http.
func (s *Store) endpoints(ctx context.Context, domain string) ([]*endpoint, error) {
	if domain == hubDomain || domain == "index."+hubDomain {
		return s.hubEndpoints(ctx)
	}
	e := &endpoint{url: url.URL{Scheme: "https", Host: domain}, certs: s.certs(domain)}
	if !s.insecure(ctx, domain) {
		return []*endpoint{e}, nil
	}
	e.insecure = true
	return []*endpoint{e, {url: url.URL{Scheme: "http", Host: domain}}}, nil
}

func (s *Store) hubEndpoints(ctx context.Context) ([]*endpoint, error) {
	var list []*endpoint
	for _, m := range s.cfg.Mirrors {
		u, err := url.Parse(m)
		if err != nil {
			return nil, fmt.Errorf("mirror %q: %w", m, err)
		}
		u.Path = strings.TrimSuffix(u.Path, "/")
		list = append(list, &endpoint{url: *u, insecure: s.insecure(ctx, u.Host), certs: s.certs(u.Host), mirror: true})
	}
	return append(list, &endpoint{url: url.URL{Scheme: "https", Host: hubHost}}), nil
}

func (s *Store) certs(host string) string {
	if s.cfg.Certs == "" || strings.ContainsAny(host, `/\`) {
		return ""
	}
	return filepath.Join(s.cfg.Certs, host)
}

// insecure tells whether a registry may be spoken to without a certificate known here: those configured, and those
// on loopback.
func (s *Store) insecure(ctx context.Context, domain string) bool {
	host := domain
	if h, _, err := net.SplitHostPort(domain); err == nil {
		host = h
	}
	nets := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	for _, r := range s.cfg.Insecure {
		if r == domain || r == host {
			return true
		}
		if p, err := netip.ParsePrefix(r); err == nil {
			nets = append(nets, p)
		}
	}
	for _, a := range s.addresses(ctx, host) {
		for _, n := range nets {
			if n.Contains(a) {
				return true
			}
		}
	}
	return false
}

func (s *Store) addresses(ctx context.Context, host string) []netip.Addr {
	if a, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return []netip.Addr{a.Unmap()}
	}
	if strings.EqualFold(host, "localhost") {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	}
	return s.lookup(ctx, host)
}

func lookupHost(ctx context.Context, host string) []netip.Addr {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil // the connection will say so
	}
	for i := range found {
		found[i] = found[i].Unmap()
	}
	return found
}

// newTransport makes the connections of one repository's transfers; closing them is its owner's.
func newTransport(e *endpoint) http.RoundTripper {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: dialTimeout, KeepAlive: dialTimeout}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: time.Minute,
		IdleConnTimeout:       time.Minute,
		TLSClientConfig:       e.tls(),
	}
}

// tls reads the registry's certificates. What cannot be read is as if it were not there: the handshake fails then,
// and says why.
func (e *endpoint) tls() *tls.Config {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: e.insecure}
	if e.certs == "" {
		return cfg
	}
	files, err := os.ReadDir(e.certs)
	if err != nil {
		return cfg
	}
	for _, f := range files {
		path := filepath.Join(e.certs, f.Name())
		switch filepath.Ext(path) {
		case ".crt":
			addCA(cfg, path)
		case ".cert":
			addClient(cfg, path, strings.TrimSuffix(path, ".cert")+".key")
		}
	}
	return cfg
}

func addCA(cfg *tls.Config, path string) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return
	}
	if cfg.RootCAs == nil {
		if cfg.RootCAs, err = x509.SystemCertPool(); err != nil {
			cfg.RootCAs = x509.NewCertPool()
		}
	}
	cfg.RootCAs.AppendCertsFromPEM(pem)
}

func addClient(cfg *tls.Config, cert, key string) {
	if pair, err := tls.LoadX509KeyPair(cert, key); err == nil {
		cfg.Certificates = append(cfg.Certificates, pair)
	}
}

// gaveUp tells whether an error is the request's own end rather than the registry's fault.
func gaveUp(ctx context.Context, err error) bool {
	return ctx.Err() != nil || errors.Is(err, context.Canceled)
}
