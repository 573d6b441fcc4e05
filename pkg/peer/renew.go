package peer

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"net"
	"net/http"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/containerd/errdefs"
)

// renewLook is how often a certificate is looked at.
const renewLook = time.Hour

// due tells whether a certificate has had two thirds of its life, or names another address.
func due(leaf *x509.Certificate, ip net.IP, now time.Time) bool {
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	moved := ip != nil && !slices.ContainsFunc(leaf.IPAddresses, ip.Equal)
	return moved || now.After(leaf.NotBefore.Add(life*2/3))
}

// Refresh makes sure that the certificate is good for a while and names the address: servers sign their own, others ask
// the servers at the addresses.
func (id *Identity) Refresh(ctx context.Context, ip net.IP, servers []string) error {
	id.mu.RLock()
	leaf := id.leaf
	id.mu.RUnlock()
	now := time.Now()
	if !due(leaf, ip, now) {
		return nil
	}
	if id.authority.key != nil {
		cert, err := id.authority.sign(Subject{Host: id.host, Server: true, IP: ip}, id.key.Public(), now)
		if err != nil {
			return err
		}
		return id.replace(cert)
	}
	return id.askToRenew(ctx, ip, servers)
}

func (id *Identity) askToRenew(ctx context.Context, ip net.IP, servers []string) error {
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, id.key)
	if err != nil {
		return err
	}
	tr := &http.Transport{TLSClientConfig: id.ClientTLS(), DisableKeepAlives: true}
	last := error(errdefs.ErrUnavailable.WithMessage("no server of the fleet is known here"))
	for _, addr := range servers {
		var ans joinAnswer
		ctx, cancel := context.WithTimeout(ctx, joinTry)
		last = post(ctx, tr, "https://"+addr+renewPath, renewRequest{encodePEM("CERTIFICATE REQUEST", csr), ip.String()}, &ans)
		cancel()
		if last == nil {
			return id.replace(ans.Certificate)
		}
	}
	return last
}

func (id *Identity) replace(cert []byte) error {
	if err := id.write(fileCert, cert); err != nil {
		return err
	}
	return id.use(cert)
}

// KeepFresh renews until the context ends.
func (id *Identity) KeepFresh(ctx context.Context, ip net.IP, servers func() []string, log *zap.Logger) error {
	tick := time.NewTicker(renewLook)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := id.Refresh(ctx, ip, servers()); err != nil && ctx.Err() == nil {
				log.Warn("this host's certificate was not renewed; trying again", zap.Error(err))
			}
		}
	}
}
