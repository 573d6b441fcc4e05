package logs

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-connections/tlsconfig"
)

const (
	syslogTLS  = "tcp+tls"
	syslogPort = "514"
	// Severities of standard output and error, RFC 5424 section 6.2.1.
	severityErr, severityInfo = 3, 6
)

// facilities by their numbers, RFC 5424 section 6.2.1.
var facilities = []string{
	"kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
	"", "", "", "", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
}

// syslog sends messages to a syslog server, in the forms that Docker's driver has.
type syslog struct {
	link     link
	local    bool // the server of this host, wherever its socket is
	facility int
	tag      string
	hostname string
	form     syslogForm
	counted  bool // each message is preceded by its length, RFC 5425
}

// syslogForm writes one message with its newline.
type syslogForm func(s *syslog, priority int, now time.Time, line []byte) string

var syslogForms = map[string]syslogForm{
	"": func(s *syslog, priority int, now time.Time, line []byte) string {
		return fmt.Sprintf("<%d>%s %s[%d]: %s\n", priority, now.Format(time.Stamp), s.tag, os.Getpid(), line)
	},
	"rfc3164": func(s *syslog, priority int, now time.Time, line []byte) string {
		return fmt.Sprintf("<%d>%s %s %s[%d]: %s\n", priority, now.Format(time.Stamp), s.hostname, s.tag, os.Getpid(), line)
	},
	"rfc5424": func(s *syslog, p int, now time.Time, l []byte) string {
		return s.rfc5424(p, now.Format(time.RFC3339), l)
	},
	"rfc5424micro": func(s *syslog, p int, now time.Time, l []byte) string { return s.rfc5424(p, now.Format(microTime), l) },
}

// microTime has the most digits that RFC 5424 allows.
const microTime = "2006-01-02T15:04:05.000000Z07:00"

// rfc5424 has the tag as application and as message id, so that receivers of either kind find it.
func (s *syslog) rfc5424(priority int, stamp string, line []byte) string {
	return fmt.Sprintf("<%d>1 %s %s %s %d %s - %s\n", priority, stamp, s.hostname, s.tag, os.Getpid(), s.tag, line)
}

func checkSyslog(opts map[string]string) error {
	known := []string{"syslog-address", "syslog-facility", "syslog-tls-ca-cert", "syslog-tls-cert", "syslog-tls-key", "syslog-tls-skip-verify", "syslog-format"}
	if name := unknown(opts, known, attributeOptions); name != "" {
		return fmt.Errorf("unknown log opt '%s' for syslog log driver", name)
	}
	network, path, err := syslogAddress(opts["syslog-address"])
	if err != nil {
		return err
	}
	if strings.HasPrefix(network, "unix") {
		if _, err := os.Stat(path); err != nil {
			return err
		}
	}
	if _, err := syslogFacility(opts["syslog-facility"]); err != nil {
		return err
	}
	if syslogForms[opts["syslog-format"]] == nil {
		return errors.New("Invalid syslog format")
	}
	return nil
}

func openSyslog(info Info, opts map[string]string) (receiver, error) {
	s := &syslog{form: syslogForms[opts["syslog-format"]]}
	var err error
	if s.tag, err = renderTag(info, opts["tag"]); err != nil {
		return nil, err
	}
	if s.link.network, s.link.address, err = syslogAddress(opts["syslog-address"]); err != nil {
		return nil, err
	}
	if s.facility, err = syslogFacility(opts["syslog-facility"]); err != nil {
		return nil, err
	}
	if s.hostname, err = os.Hostname(); err != nil {
		return nil, err
	}
	s.local = s.link.network == ""
	if s.link.network != syslogTLS {
		return s, nil
	}
	_, skip := opts["syslog-tls-skip-verify"]
	s.link.network, s.counted = "tcp", strings.HasPrefix(opts["syslog-format"], "rfc5424")
	s.link.tls, err = tlsconfig.Client(tlsconfig.Options{
		CAFile: opts["syslog-tls-ca-cert"], CertFile: opts["syslog-tls-cert"], KeyFile: opts["syslog-tls-key"], InsecureSkipVerify: skip,
	})
	return s, err
}

func syslogAddress(address string) (network, host string, err error) {
	if address == "" {
		return "", "", nil
	}
	u, err := url.Parse(address)
	if err != nil {
		return "", "", err
	}
	switch u.Scheme {
	case "unix", "unixgram":
		return u.Scheme, u.Path, nil
	case "udp", "tcp", syslogTLS:
	default:
		return "", "", fmt.Errorf("unsupported scheme: '%s'", u.Scheme)
	}
	if _, _, err := net.SplitHostPort(u.Host); err != nil {
		var addr *net.AddrError
		if !errors.As(err, &addr) || addr.Err != "missing port in address" {
			return "", "", err
		}
		return u.Scheme, net.JoinHostPort(u.Host, syslogPort), nil
	}
	return u.Scheme, u.Host, nil
}

func syslogFacility(name string) (int, error) {
	if name == "" {
		name = "daemon"
	}
	if n := slices.Index(facilities, name); n >= 0 {
		return n, nil
	}
	n, err := strconv.Atoi(name)
	if err != nil || n < 0 || n >= len(facilities) {
		return 0, errors.New("invalid syslog facility")
	}
	return n, nil
}

func (s *syslog) connect(ctx context.Context) error {
	if !s.local || s.link.conn != nil {
		return s.link.open(ctx)
	}
	for _, network := range []string{"unixgram", "unix"} {
		for _, path := range []string{"/dev/log", "/var/run/syslog", "/var/run/log"} {
			s.link.network, s.link.address, s.link.failed = network, path, time.Time{}
			if s.link.open(ctx) == nil {
				return nil
			}
		}
	}
	return errors.New("Unix syslog delivery error")
}

// send leaves out empty lines, as Docker's driver does. A connection that has broken is made anew once.
func (s *syslog) send(ctx context.Context, m message, failed func()) error {
	if len(m.line) == 0 {
		return nil
	}
	severity := severityInfo
	if m.stream == "stderr" {
		severity = severityErr
	}
	text := s.form(s, s.facility<<3|severity, time.Now(), m.line)
	if s.counted {
		text = fmt.Sprintf("%d %s", len(text), text)
	}
	var err error
	for range 2 {
		if err = s.connect(ctx); err != nil {
			break
		}
		if err = s.link.write(ctx, []byte(text)); err == nil {
			return nil
		}
	}
	failed()
	return err
}

func (s *syslog) close() error { return s.link.close() }
