package answer

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types"

	"github.com/nereid-paas/nereid/api/compat"
)

// Conn is a connection taken over from HTTP: a raw stream both ways, each of which ends on its own.
type Conn struct {
	net.Conn
	in     io.Reader
	closed sync.Once
}

// Read gives what the client sends, beginning with what had arrived behind its request.
func (c *Conn) Read(p []byte) (int, error) { return c.in.Read(p) }

// CloseWrite tells the client that nothing more will come, while it may still send.
func (c *Conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Conn.Close()
}

// Close ends both ways. It may be called twice.
func (c *Conn) Close() (err error) {
	c.closed.Do(func() { err = c.Conn.Close() })
	return err
}

// Stdin gives the client's side of the connection. Closing it ends a Read that waits and leaves the output open.
func (c *Conn) Stdin() io.ReadCloser { return stdin{c} }

type stdin struct{ c *Conn }

func (s stdin) Read(p []byte) (int, error) { return s.c.Read(p) }
func (s stdin) Close() error               { return s.c.SetReadDeadline(time.Unix(1, 0)) }

// lingerTime bounds the wait for a client to hang up after we did. Clients do at once; those that do not are cut off.
const lingerTime = 5 * time.Second

// Finish ends the output, waits for the client to end its side, for a while or until the context ends, and closes.
// Closing with input unread would reset the connection and could take output away that the client has not read yet.
func (c *Conn) Finish(ctx context.Context) {
	defer func() { _ = c.Close() }()
	if err := c.CloseWrite(); err != nil {
		return
	}
	defer context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })()
	if err := c.SetReadDeadline(time.Now().Add(lingerTime)); err != nil || ctx.Err() != nil {
		return
	}
	_, _ = io.Copy(io.Discard, c.Conn)
}

// Upgrade takes the connection over and sends the header of a raw stream: 101 to a client that asked for an upgrade,
// which is also told whether the stream is multiplexed, and 200 to one that did not. Headers set before are sent along.
// The caller closes the connection. A connection that cannot be taken over (HTTP/2) is errdefs.ErrInvalidArgument.
func Upgrade(w http.ResponseWriter, r *http.Request, multiplexed bool) (_ *Conn, retErr error) {
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("hijack connection missing: %v", err))
	}
	defer func() {
		if retErr != nil {
			_ = conn.Close()
		}
	}()
	early, err := pipelined(buf.Reader)
	if err != nil {
		return nil, fmt.Errorf("reading what came with the request: %w", err)
	}
	if _, err := conn.Write(preamble(w.Header(), r, multiplexed)); err != nil {
		return nil, fmt.Errorf("sending the header of the stream: %w", err)
	}
	c := &Conn{Conn: conn, in: conn}
	if len(early) > 0 {
		c.in = io.MultiReader(bytes.NewReader(early), conn)
	}
	return c, nil
}

// pipelined takes the bytes that the server had read beyond the request.
func pipelined(buf *bufio.Reader) ([]byte, error) {
	early := make([]byte, buf.Buffered())
	_, err := io.ReadFull(buf, early)
	return early, err
}

func preamble(h http.Header, r *http.Request, multiplexed bool) []byte {
	var b bytes.Buffer
	if _, ok := r.Header["Upgrade"]; ok {
		fmt.Fprintf(&b, "HTTP/1.1 101 UPGRADED\r\nContent-Type: %s\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n", StreamType(r, multiplexed))
	} else {
		fmt.Fprintf(&b, "HTTP/1.1 200 OK\r\nContent-Type: %s\r\n", types.MediaTypeRawStream)
	}
	_ = h.WriteSubset(&b, map[string]bool{"Content-Type": true, "Connection": true, "Upgrade": true}) // a buffer takes all
	b.WriteString("\r\n")
	return b.Bytes()
}

// StreamType is the content type of a stream for the version the client speaks.
func StreamType(r *http.Request, multiplexed bool) string {
	if multiplexed && compat.Multiplexed(compat.From(r.Context())) {
		return types.MediaTypeMultiplexedStream
	}
	return types.MediaTypeRawStream
}
