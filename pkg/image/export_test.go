package image

import (
	"context"
	"net"
	"net/http"
	"net/netip"
)

// DialAll has every connection go to one address, whatever the registry's name.
func (s *Store) DialAll(addr string) {
	s.lookup = func(context.Context, string) []netip.Addr { return nil }
	s.transport = func(e *endpoint) http.RoundTripper {
		tr := newTransport(e).(*http.Transport)
		tr.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		}
		return tr
	}
}

// HubAt has Docker Hub answer in plain http at an address.
func (s *Store) HubAt(addr string) {
	s.transport = func(e *endpoint) http.RoundTripper { return hubAt{newTransport(e), addr} }
}

type hubAt struct {
	http.RoundTripper
	addr string
}

// RoundTrip implements http.RoundTripper.
func (h hubAt) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host == hubHost {
		r = r.Clone(r.Context())
		r.URL.Scheme, r.URL.Host = "http", h.addr
	}
	return h.RoundTripper.RoundTrip(r)
}

// AskError is what a refusal with a code and words becomes.
func AskError(code, message string) error {
	return askError(&registryError{Code: code, Message: message})
}
