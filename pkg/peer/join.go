package peer

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/containerd/errdefs"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// Paths between hosts, beside Docker's and etcd's.
const (
	joinPath  = "/nereid/peer/join"
	renewPath = "/nereid/peer/certificate"
)

// Application is how a host asks to be let in. Fingerprint is filled in by who receives it.
type Application struct {
	Secret      string
	Host        nereid.Host
	Server      bool
	Peer        string // ADDR:PORT at which it will be reached
	Fingerprint string `json:"-"`
}

// Admission is what the fleet tells it.
type Admission struct {
	Servers []ServerAddress // of the state, the new one among them when it is to be one
	Others  []string        // ADDR:PORT of gossip
}

type joinRequest struct {
	Application
	Request []byte // certificate request, PEM
}

type joinAnswer struct {
	Admission
	CA, Certificate []byte
	CAKey           []byte `json:",omitempty"` // servers only
	GossipKey       []byte
}

type renewRequest struct {
	Request []byte
	IP      string
}

const (
	// joinTry bounds one try to join. A fleet that is electing, or takes another server just now, is asked again.
	joinTry   = 20 * time.Second
	joinAgain = time.Second
)

// Join has a host of the fleet at addr let this one in, and keeps what it was told. It tries until the context ends, or
// it is refused.
func Join(ctx context.Context, dir, addr, tok string, a Application) (*Identity, error) {
	t, err := parseToken(tok)
	if err != nil {
		return nil, err
	}
	id, err := begin(dir, a.Host)
	if err != nil {
		return nil, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, id.key)
	if err != nil {
		return nil, err
	}
	a.Secret = t.secret
	req := joinRequest{a, encodePEM("CERTIFICATE REQUEST", csr)}
	for {
		ans, err := askToJoin(ctx, t, addr, req)
		if err == nil {
			return id, id.accept(ans, a)
		}
		if !errdefs.IsUnavailable(err) {
			return nil, fmt.Errorf("join the fleet at %s: %w", addr, err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("join the fleet at %s: %w", addr, err)
		case <-time.After(joinAgain):
		}
	}
}

func askToJoin(ctx context.Context, t token, addr string, req joinRequest) (*joinAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, joinTry)
	defer cancel()
	tr := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{
		MinVersion:         tls.VersionTLS13,
		InsecureSkipVerify: true, // the token's hash says whom we talk to, below: there is no name to go by yet
		VerifyConnection:   func(cs tls.ConnectionState) error { return t.verify(addr, cs.PeerCertificates) },
	}}
	ans := &joinAnswer{}
	return ans, post(ctx, tr, "https://"+addr+joinPath, req, ans)
}

// verify wants the authority of the token among the certificates, and the first to be of it.
func (t token) verify(addr string, certs []*x509.Certificate) error {
	for _, ca := range certs {
		if !t.matches(ca) {
			continue
		}
		roots := x509.NewCertPool()
		roots.AddCert(ca)
		_, err := certs[0].Verify(x509.VerifyOptions{Roots: roots})
		return err
	}
	return errWrongFleet(addr)
}

// post sends JSON and reads JSON. The other side's refusals keep their class.
func post(ctx context.Context, tr http.RoundTripper, url string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := tr.RoundTrip(req)
	if err != nil {
		if errors.Is(err, errdefs.ErrPermissionDenied) {
			return err
		}
		return errdefs.ErrUnavailable.WithMessage(err.Error()) // a timeout is a class of its own
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return Refusal(res)
	}
	return json.NewDecoder(io.LimitReader(res.Body, maxMessage)).Decode(out)
}

// maxMessage bounds a message between hosts that is not a stream: a list of some thousand hosts.
const maxMessage = 4 << 20

// Refusal is another host's error with its words and its class.
func Refusal(res *http.Response) error {
	var said struct{ Message string }
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxMessage))
	if err != nil {
		return fmt.Errorf("%w: %w", err, errdefs.ErrUnavailable)
	}
	if json.Unmarshal(raw, &said) != nil || said.Message == "" {
		said.Message = res.Status
	}
	switch res.StatusCode {
	case http.StatusServiceUnavailable:
		return errdefs.ErrUnavailable.WithMessage(said.Message)
	case http.StatusNotFound:
		return errdefs.ErrNotFound.WithMessage(said.Message)
	case http.StatusConflict:
		return errdefs.ErrConflict.WithMessage(said.Message)
	case http.StatusBadRequest:
		return errdefs.ErrInvalidArgument.WithMessage(said.Message)
	case http.StatusForbidden, http.StatusUnauthorized:
		return errdefs.ErrPermissionDenied.WithMessage(said.Message)
	}
	return errdefs.ErrInternal.WithMessage(said.Message)
}

// accept makes an answer this host's identity.
func (id *Identity) accept(ans *joinAnswer, a Application) error {
	ca, err := decodeCertificate(ans.CA)
	if err != nil {
		return fmt.Errorf("the fleet's authority: %w", err)
	}
	id.authority = &Authority{cert: ca}
	if len(ans.CAKey) > 0 {
		if id.authority.key, err = decodeKey(ans.CAKey); err != nil {
			return fmt.Errorf("the key of the fleet's authority: %w", err)
		}
	}
	id.gossip = ans.GossipKey
	if err := id.use(ans.Certificate); err != nil {
		return fmt.Errorf("the certificate from the fleet: %w", err)
	}
	id.standing = Standing{Joined: true, Server: a.Server, Open: true, Others: ans.Others}
	for _, s := range ans.Servers {
		id.standing.Endpoints = append(id.standing.Endpoints, s.Peer)
	}
	if a.Server {
		id.standing.Servers = ans.Servers
	}
	return id.save(ans.Certificate)
}

// IP of ADDR:PORT; nil for a name.
func ipOf(addr string) net.IP {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil
	}
	return net.ParseIP(host)
}
