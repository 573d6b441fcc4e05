package logs

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	// A datagram is cut into chunks that fit any network, at most as many as the format can count.
	gelfChunk       = 1420
	gelfChunkHeader = 12
	gelfMaxChunks   = 128
	// What the driver does without its options for TCP.
	gelfReconnects     = 3
	gelfReconnectDelay = time.Second
)

// gelf sends messages in the Graylog Extended Log Format 1.1.
type gelf struct {
	link       link
	hostname   string
	extra      []byte // the fields that every message has, as the inside of a JSON object
	compress   func(io.Writer) (io.WriteCloser, error)
	reconnects int
	delay      time.Duration
}

func checkGELF(opts map[string]string) error {
	u, err := gelfAddress(opts["gelf-address"])
	if err != nil {
		return err
	}
	known := []string{"gelf-address", "gelf-compression-level", "gelf-compression-type", "gelf-tcp-max-reconnect", "gelf-tcp-reconnect-delay"}
	if name := unknown(opts, known, attributeOptions); name != "" {
		return fmt.Errorf("unknown log opt %q for gelf log driver", name)
	}
	for _, name := range sortedNames(opts) {
		if err := checkGELFOption(u.Scheme, name, opts[name]); err != nil {
			return err
		}
	}
	return nil
}

func checkGELFOption(scheme, name, value string) error {
	n, err := strconv.Atoi(value)
	switch name {
	case "gelf-compression-level", "gelf-compression-type":
		if scheme != "udp" {
			return errors.New("compression is only supported on UDP")
		}
		bad := err != nil || n < flate.DefaultCompression || n > flate.BestCompression
		if name == "gelf-compression-type" {
			bad = value != "gzip" && value != "zlib" && value != "none"
		}
		if bad {
			return fmt.Errorf("unknown value %q for log opt %q for gelf log driver", value, name)
		}
	case "gelf-tcp-max-reconnect", "gelf-tcp-reconnect-delay":
		if scheme != "tcp" {
			return fmt.Errorf("%q is only valid for TCP", name)
		}
		if err != nil || n < 0 {
			return fmt.Errorf("%q must be a positive integer", name)
		}
	}
	return nil
}

func gelfAddress(address string) (*url.URL, error) {
	if address == "" {
		return nil, errors.New("gelf-address is a required parameter")
	}
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	if u.Scheme != "udp" && u.Scheme != "tcp" {
		return nil, errors.New("gelf: endpoint needs to be TCP or UDP")
	}
	if _, _, err := net.SplitHostPort(u.Host); err != nil {
		return nil, errors.New("gelf: please provide gelf-address as proto://host:port")
	}
	return u, nil
}

func openGELF(info Info, opts map[string]string) (receiver, error) {
	u, err := gelfAddress(opts["gelf-address"])
	if err != nil {
		return nil, err
	}
	g := &gelf{link: link{network: u.Scheme, address: u.Host}, reconnects: gelfReconnects, delay: gelfReconnectDelay}
	if g.hostname, err = os.Hostname(); err != nil {
		return nil, errors.New("gelf: cannot access hostname to set source field")
	}
	if g.extra, err = gelfExtra(info, opts); err != nil {
		return nil, err
	}
	if n, err := strconv.Atoi(opts["gelf-tcp-max-reconnect"]); err == nil {
		g.reconnects = n
	}
	if n, err := strconv.Atoi(opts["gelf-tcp-reconnect-delay"]); err == nil {
		g.delay = time.Duration(n) * time.Second
	}
	if u.Scheme == "udp" {
		g.compress = gelfCompression(opts)
	}
	return g, nil
}

// gelfCompression is nil for none.
func gelfCompression(opts map[string]string) func(io.Writer) (io.WriteCloser, error) {
	level := flate.BestSpeed
	if n, err := strconv.Atoi(opts["gelf-compression-level"]); err == nil {
		level = n
	}
	switch opts["gelf-compression-type"] {
	case "none":
		return nil
	case "zlib":
		return func(w io.Writer) (io.WriteCloser, error) { return zlib.NewWriterLevel(w, level) }
	}
	return func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriterLevel(w, level) }
}

// gelfExtra are the fields that are the same in every message. Names of the user's get the underscore that the format
// wants.
func gelfExtra(info Info, opts map[string]string) ([]byte, error) {
	tag, err := renderTag(info, opts["tag"])
	if err != nil {
		return nil, err
	}
	fields := map[string]any{
		"_container_id": info.ContainerID, "_container_name": info.Name(), "_image_id": info.ContainerImageID,
		"_image_name": info.ContainerImageName, "_command": info.Command(), "_tag": tag, "_created": info.ContainerCreated,
	}
	picked, err := extraAttributes(info, opts)
	if err != nil {
		return nil, err
	}
	for k, v := range picked {
		fields["_"+strings.TrimPrefix(k, "_")] = v
	}
	raw, err := json.Marshal(fields)
	return bytes.TrimSuffix(bytes.TrimPrefix(raw, []byte("{")), []byte("}")), err
}

func (g *gelf) connect(ctx context.Context) error {
	if err := g.link.open(ctx); err != nil {
		return fmt.Errorf("gelf: cannot connect to GELF endpoint: %s %w", g.link.address, err)
	}
	return nil
}

// send leaves out empty lines, as Docker's driver does.
func (g *gelf) send(ctx context.Context, m message, failed func()) error {
	if len(m.line) == 0 {
		return nil
	}
	body, err := g.encode(m)
	if err != nil {
		return err
	}
	if g.link.network == "tcp" {
		return g.sendTCP(ctx, append(body, 0), failed)
	}
	if err := g.sendUDP(ctx, body); err != nil {
		failed()
		return err
	}
	return nil
}

func (g *gelf) encode(m message) ([]byte, error) {
	level := severityInfo
	if m.stream == "stderr" {
		level = severityErr
	}
	raw, err := json.Marshal(struct {
		Version string  `json:"version"`
		Host    string  `json:"host"`
		Short   string  `json:"short_message"`
		Time    float64 `json:"timestamp"` // seconds since 1970, to the millisecond
		Level   int     `json:"level"`
	}{"1.1", g.hostname, string(m.line), float64(m.time.UnixMilli()) / 1000, level})
	if err != nil {
		return nil, err
	}
	raw = append(raw[:len(raw)-1], ',')
	return append(append(raw, g.extra...), '}'), nil
}

// sendTCP tries again over new connections, with a pause before each.
func (g *gelf) sendTCP(ctx context.Context, body []byte, failed func()) error {
	for try := 0; ; try++ {
		err := g.link.write(ctx, body)
		if err == nil {
			return nil
		}
		failed()
		if try >= g.reconnects || !pause(ctx, g.delay) {
			return err
		}
	}
}

func (g *gelf) sendUDP(ctx context.Context, body []byte) error {
	if g.compress != nil {
		var b bytes.Buffer
		z, err := g.compress(&b)
		if err != nil {
			return err
		}
		if _, err := z.Write(body); err != nil {
			return err
		}
		if err := z.Close(); err != nil {
			return err
		}
		body = b.Bytes()
	}
	if len(body) <= gelfChunk {
		return g.link.write(ctx, body)
	}
	return g.sendChunks(ctx, body)
}

func (g *gelf) sendChunks(ctx context.Context, body []byte) error {
	const room = gelfChunk - gelfChunkHeader
	count := (len(body) + room - 1) / room
	if count > gelfMaxChunks {
		return fmt.Errorf("message too large: it would need %d chunks", count)
	}
	chunk := make([]byte, gelfChunk)
	chunk[0], chunk[1] = 0x1e, 0x0f
	rand.Read(chunk[2:10]) // the message's id; never fails, by its contract
	for i := range count {
		chunk[10], chunk[11] = byte(i), byte(count)
		n := copy(chunk[gelfChunkHeader:], body[i*room:])
		if err := g.link.write(ctx, chunk[:gelfChunkHeader+n]); err != nil {
			return err
		}
	}
	return nil
}

func (g *gelf) close() error { return g.link.close() }

// pause waits, and tells whether it did not end with the context.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
