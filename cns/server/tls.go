package server

import (
	"crypto/tls"
	"fmt"
	"os"
	"sync"
	"time"
)

// Certificate is a key pair in files, read again when they have changed: certificates are renewed.
type Certificate struct {
	CertFile, KeyFile string

	mu    sync.Mutex
	read  time.Time // of the certificate's file
	valid *tls.Certificate
}

// Load reads the files. A pair that was read before goes on while a new one cannot be read.
func (c *Certificate) Load() (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	info, err := os.Stat(c.CertFile)
	if err == nil && c.valid != nil && info.ModTime().Equal(c.read) {
		return c.valid, nil
	}
	pair, pairErr := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
	if err == nil {
		err = pairErr
	}
	if err != nil {
		if c.valid != nil {
			return c.valid, nil
		}
		return nil, fmt.Errorf("certificate for DNS over TLS: %w", err)
	}
	c.read, c.valid = info.ModTime(), &pair
	return c.valid, nil
}

// config is for DNS over TLS (RFC 7858).
func (c *Certificate) config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"dot"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.Load() },
	}
}
