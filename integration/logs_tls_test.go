//go:build integration

package integration

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/nereid-paas/nereid/integration/lab"
)

// TestLogDriversOverTLS sends to receivers that show a certificate, and to one that wants to see one.
func TestLogDriversOverTLS(t *testing.T) {
	ca := newIssuer(t)
	dir := t.TempDir()
	file := func(name string, body []byte) string {
		path := filepath.Join(dir, name)
		assert.NilError(t, os.WriteFile(path, body, 0o600))
		return path
	}
	root := file("ca.pem", pemOf("CERTIFICATE", ca.cert.Raw))
	clientCert, clientKey := ca.pair(t, &x509.Certificate{Subject: pkix.Name{CommonName: "host"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	cert, key := file("cert.pem", clientCert), file("key.pem", clientKey)
	t.Setenv("SSL_CERT_FILE", root) // fluentd's receiver is verified by the host's authorities: there is no option for others
	t.Setenv("SSL_CERT_DIR", dir)
	h := lab.NewWithBusybox(t)

	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	shown := &tls.Config{Certificates: []tls.Certificate{ca.server(t, "127.0.0.1")}}
	both := shown.Clone()
	both.ClientAuth, both.ClientCAs = tls.RequireAndVerifyClientCert, pool
	stranger := &tls.Config{Certificates: []tls.Certificate{newIssuer(t).server(t, "127.0.0.1")}}
	var verified, mutual, unknown, fluent received
	verified.tcp(t, tls.NewListener(h.Listen(t, "127.0.0.1:6514"), shown))
	mutual.tcp(t, tls.NewListener(h.Listen(t, "127.0.0.1:6515"), both))
	unknown.tcp(t, tls.NewListener(h.Listen(t, "127.0.0.1:6516"), stranger))
	fluent.tcp(t, tls.NewListener(h.Listen(t, "127.0.0.1:24224"), shown))

	syslog := "--log-driver syslog --log-opt syslog-address=tcp+tls://127.0.0.1:"
	ours := " --log-opt syslog-tls-ca-cert=" + root
	for n, tc := range []struct {
		name, args string
		to         *received
		want       []string
	}{
		{"syslog", syslog + "6514" + ours, &verified, []string{"]: out\n", "]: err\n"}},
		{"syslog, octets counted", syslog + "6514 --log-opt syslog-format=rfc5424" + ours, &verified, []string{" <30>1 ", " - out\n", " <27>1 ", " - err\n"}},
		{"syslog, with a certificate of its own", syslog + "6515 --log-opt syslog-tls-cert=" + cert + " --log-opt syslog-tls-key=" + key + ours, &mutual, []string{"]: out\n", "]: err\n"}},
		{"syslog, not verified", syslog + "6516 --log-opt syslog-tls-skip-verify=true", &unknown, []string{"]: out\n", "]: err\n"}},
		{"fluentd", "--log-driver fluentd --log-opt fluentd-address=tls://127.0.0.1:24224", &fluent, []string{"\xa3log\xa3out", "\xa3log\xa3err"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			name := fmt.Sprintf("tls-%d", n)
			h.Docker(t, split("run --name "+name+" "+tc.args+" busybox sh -c 'echo out; echo err >&2'")...)
			tc.to.want(t, tc.want...)
			eventually(t, 30*time.Second, func() error {
				if r := h.Try(t, "logs", name); r.Stdout != "out\n" || r.Stderr != "err\n" {
					return fmt.Errorf("docker logs: %q %q", r.Stdout, r.Stderr)
				}
				return nil
			})
		})
	}
	for _, tc := range []struct{ name, args, words string }{
		{"a receiver of another authority", syslog + "6516" + ours, "certificate signed by unknown authority"},
		{"no authority's file", syslog + "6514 --log-opt syslog-tls-ca-cert=/nosuch", "/nosuch"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := h.Try(t, split("run --rm "+tc.args+" busybox echo never")...)
			assert.Check(t, r.Code >= 125, r.Combined()) // 127 where the words are those of a command that is not there
			assert.Check(t, is.Contains(r.Stderr, tc.words))
			assert.Check(t, !strings.Contains(r.Stdout, "never"))
		})
	}
}
