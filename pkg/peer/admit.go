package peer

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/containerd/errdefs"
)

// join lets a host in, here where the authority's key is, else by way of a server.
func (s *Server) join(ctx context.Context, body []byte) (any, error) {
	fleet := s.fleet.Load()
	if fleet == nil {
		return nil, errStarting
	}
	if s.id.authority.key == nil {
		return s.atAServer(ctx, joinPath, body, &joinAnswer{})
	}
	var req joinRequest
	if err := json.Unmarshal(body, &req); err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	csr, err := parseRequest(req.Request)
	if err != nil {
		return nil, err
	}
	if req.Fingerprint, err = fingerprint(csr.PublicKey); err != nil {
		return nil, err
	}
	ans := joinAnswer{GossipKey: s.id.gossip, CA: encodePEM("CERTIFICATE", s.id.authority.cert.Raw)}
	if ans.Admission, err = (*fleet).Admit(ctx, req.Application); err != nil {
		return nil, err
	}
	subject := Subject{Host: req.Host, Server: req.Server, IP: ipOf(req.Peer)}
	if ans.Certificate, err = s.id.authority.signRequest(subject, csr, time.Now()); err != nil {
		return nil, err
	}
	if req.Server {
		if ans.CAKey, err = encodeKey(s.id.authority.key); err != nil {
			return nil, err
		}
	}
	return ans, nil
}

// renew gives a host of the fleet a new certificate for the key that it has.
func (s *Server) renew(ctx context.Context, from caller, body []byte) (any, error) {
	var req renewRequest
	if err := json.Unmarshal(body, &req); err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	fleet := s.fleet.Load()
	if fleet == nil || s.id.authority.key == nil {
		return nil, errStarting
	}
	csr, err := parseRequest(req.Request)
	if err != nil {
		return nil, err
	}
	print, err := fingerprint(csr.PublicKey)
	if err != nil {
		return nil, err
	}
	server, ok := (*fleet).Admitted(from.host, print)
	if !ok {
		return nil, errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf("the key is not that of host %s", from.host))
	}
	cert, err := s.id.authority.signRequest(Subject{Host: from.host, Server: server, IP: net.ParseIP(req.IP)}, csr, time.Now())
	return joinAnswer{Certificate: cert}, err
}

// atAServer has the first server that answers decide.
func (s *Server) atAServer(ctx context.Context, path string, body []byte, out any) (any, error) {
	tr := &http.Transport{TLSClientConfig: s.id.ClientTLS(), DisableKeepAlives: true}
	last := error(errdefs.ErrUnavailable.WithMessage("no server of the fleet is known here"))
	for _, addr := range (*s.elsewhere.Load())() {
		last = post(ctx, tr, "https://"+addr+path, json.RawMessage(body), out)
		if last == nil || !errdefs.IsUnavailable(last) {
			return out, last
		}
	}
	return nil, last
}
