package logs

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
)

const (
	fluentdHost = "127.0.0.1"
	fluentdPort = "24224"
	// fluentdMaxWait is the longest pause between two tries; they begin at fluentd-retry-wait and grow by half each time.
	fluentdMaxWait = time.Minute
	// A balancer in front of several receivers gets a new connection no more and no less often than this.
	fluentdMinReconnect, fluentdMaxReconnect = 100 * time.Millisecond, 10 * time.Second
)

// fluentd sends messages in Fluentd's forward protocol, one event each.
type fluentd struct {
	fluentdOptions
	link   link
	tag    string
	fields map[string]string // that every event has
}

// fluentdOptions are the driver's, parsed.
type fluentdOptions struct {
	network, address string
	buffer           int64 // bytes that wait for the receiver
	retries          int   // of one event
	retryWait        time.Duration
	async            bool // a start does not wait for the receiver
	reconnect        time.Duration
	subSecond, ack   bool
	writeTimeout     time.Duration
}

func checkFluentd(opts map[string]string) error {
	known := []string{
		"fluentd-address", "fluentd-async", "fluentd-async-reconnect-interval", "fluentd-buffer-limit", "fluentd-max-retries",
		"fluentd-request-ack", "fluentd-retry-wait", "fluentd-sub-second-precision", "fluentd-write-timeout",
	}
	if name := unknown(opts, known, attributeOptions); name != "" {
		return fmt.Errorf("unknown log opt '%s' for fluentd log driver", name)
	}
	_, err := parseFluentd(opts)
	return err
}

func parseFluentd(opts map[string]string) (fluentdOptions, error) {
	o := fluentdOptions{buffer: 1 << 20, retries: math.MaxInt32, retryWait: time.Second}
	var err error
	if o.network, o.address, err = fluentdAddress(opts["fluentd-address"]); err != nil {
		return o, fmt.Errorf("invalid fluentd-address (%s): %w", opts["fluentd-address"], err)
	}
	for _, parse := range []func(map[string]string) error{o.parseSizes, o.parseTimes, o.parseSwitches} {
		if err := parse(opts); err != nil {
			return o, err
		}
	}
	return o, nil
}

func (o *fluentdOptions) parseSizes(opts map[string]string) (err error) {
	if v := opts["fluentd-buffer-limit"]; v != "" {
		if o.buffer, err = units.RAMInBytes(v); err != nil {
			return err
		}
	}
	if v := opts["fluentd-max-retries"]; v != "" {
		n, err := strconv.ParseUint(v, 10, 32)
		if err != nil {
			return err
		}
		if n > math.MaxInt32 {
			return errors.New("invalid fluentd-max-retries: value out of range")
		}
		o.retries = int(n)
	}
	return nil
}

func (o *fluentdOptions) parseTimes(opts map[string]string) (err error) {
	if v := opts["fluentd-retry-wait"]; v != "" {
		if o.retryWait, err = time.ParseDuration(v); err != nil {
			return err
		}
	}
	const reconnect = "fluentd-async-reconnect-interval"
	if v := opts[reconnect]; v != "" {
		d, err := time.ParseDuration(v)
		if err != nil {
			return fmt.Errorf("invalid value for %s: %w", reconnect, err)
		}
		if d != 0 && (d < fluentdMinReconnect || d > fluentdMaxReconnect) {
			return fmt.Errorf("invalid value for %s: value (%q) must be between %s and %s", reconnect, d, fluentdMinReconnect, fluentdMaxReconnect)
		}
		o.reconnect = d
	}
	if v := opts["fluentd-write-timeout"]; v != "" {
		if o.writeTimeout, err = time.ParseDuration(v); err != nil {
			return fmt.Errorf("invalid value for fluentd-write-timeout: value must be a duration: %w", err)
		}
		if o.writeTimeout < 0 {
			return errors.New("invalid value for fluentd-write-timeout: value must be a duration that is non-negative")
		}
	}
	return nil
}

func (o *fluentdOptions) parseSwitches(opts map[string]string) (err error) {
	for _, s := range []struct {
		name string
		to   *bool
	}{
		{"fluentd-async", &o.async}, {"fluentd-sub-second-precision", &o.subSecond}, {"fluentd-request-ack", &o.ack},
	} {
		if v := opts[s.name]; v != "" {
			if *s.to, err = strconv.ParseBool(v); err != nil {
				return err
			}
		}
	}
	return nil
}

func fluentdAddress(address string) (network, host string, err error) {
	if address == "" {
		return "tcp", net.JoinHostPort(fluentdHost, fluentdPort), nil
	}
	if !strings.Contains(address, "://") {
		address = "tcp://" + address
	}
	u, err := url.Parse(address)
	if err != nil {
		return "", "", err
	}
	switch u.Scheme {
	case "unix":
		if strings.TrimLeft(u.Path, "/") == "" {
			return "", "", errors.New("path is empty")
		}
		return u.Scheme, u.Path, nil
	case "tcp", "tls":
	default:
		return "", "", fmt.Errorf("unsupported scheme: '%s'", u.Scheme)
	}
	if u.Path != "" {
		return "", "", errors.New("should not contain a path element")
	}
	port := u.Port()
	if port != "" {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return "", "", fmt.Errorf("invalid port: %w", err)
		}
	}
	return u.Scheme, net.JoinHostPort(orDefault(u.Hostname(), fluentdHost), orDefault(port, fluentdPort)), nil
}

func orDefault(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

func openFluentd(info Info, opts map[string]string) (*fluentd, error) {
	o, err := parseFluentd(opts)
	if err != nil {
		return nil, err
	}
	f := &fluentd{fluentdOptions: o, link: link{network: o.network, address: o.address, writeTimeout: o.writeTimeout}}
	if o.async {
		f.link.maxAge = o.reconnect
	}
	if o.network == "tls" {
		f.link.network, f.link.tls = "tcp", &tls.Config{}
	}
	if f.tag, err = renderTag(info, opts["tag"]); err != nil {
		return nil, err
	}
	if f.fields, err = extraAttributes(info, opts); err != nil {
		return nil, err
	}
	f.fields = maps.Clone(f.fields)
	base := map[string]string{"container_id": info.ContainerID, "container_name": info.ContainerName}
	for k, v := range base {
		if _, taken := f.fields[k]; !taken {
			f.fields[k] = v
		}
	}
	return f, nil
}

func (f *fluentd) connect(ctx context.Context) error {
	if f.async {
		return nil
	}
	return f.link.open(ctx)
}

// send tries again and again, as often as the options allow, with pauses that grow.
func (f *fluentd) send(ctx context.Context, m message, failed func()) error {
	event, id := f.encode(m)
	wait := f.retryWait
	for try := 0; ; try++ {
		err := f.link.write(ctx, event)
		if err == nil && f.ack {
			err = f.link.use(ctx, func() error { return awaitAck(f.link.conn, id) })
		}
		if err == nil {
			return nil
		}
		failed()
		if try >= f.retries || !pause(ctx, wait) {
			return err
		}
		wait = min(wait*3/2, fluentdMaxWait)
	}
}

// encode makes one event: its tag, time, fields and options, and the id that the receiver is to acknowledge.
func (f *fluentd) encode(m message) (event []byte, id string) {
	fields := map[string]string{"source": m.stream, "log": string(m.line)}
	maps.Copy(fields, f.fields)
	if p := m.partial; p != nil {
		fields["partial_message"] = "true"
		fields["partial_id"] = p.id
		fields["partial_ordinal"] = strconv.Itoa(p.ordinal)
		fields["partial_last"] = strconv.FormatBool(p.last)
	}
	options := map[string]string{}
	if f.ack {
		id = newChunkID()
		options["chunk"] = id
	}
	b := packArray(nil, 4)
	b = packString(b, f.tag)
	if f.subSecond {
		b = packEventTime(b, m.time)
	} else {
		b = packInt(b, m.time.Unix())
	}
	b = packMap(b, fields)
	return packMap(b, options), id
}

func newChunkID() string {
	var raw [16]byte
	rand.Read(raw[:]) // never fails, by its contract
	return base64.StdEncoding.EncodeToString(raw[:])
}

func (f *fluentd) close() error { return f.link.close() }

// sortedNames of a map, so that what is made of it does not change from time to time.
func sortedNames(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
