package peer

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
)

// splice takes the client's connection over and joins it to the host's, each direction ending on its own. It returns
// when both have ended, one broke, or the context ends.
func splice(ctx context.Context, w http.ResponseWriter, res *http.Response, host *tls.Conn, fromHost io.Reader) error {
	client, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return err
	}
	defer client.Close()
	closeBoth := func() {
		_ = client.Close()
		_ = host.NetConn().Close()
	}
	defer context.AfterFunc(ctx, closeBoth)()
	res.Header.Del(revisionHeader)
	if err := writeHead(client, res); err != nil {
		return err
	}
	var both sync.WaitGroup
	both.Go(func() {
		// What the client had sent behind its request lies in the buffer.
		if _, err := io.Copy(host, io.MultiReader(io.LimitReader(buf, int64(buf.Reader.Buffered())), client)); err != nil || host.CloseWrite() != nil {
			closeBoth()
		}
	})
	both.Go(func() {
		if _, err := io.Copy(client, fromHost); err != nil || closeWrite(client) != nil {
			closeBoth()
		}
	})
	both.Wait()
	return nil
}

// writeHead sends the host's answer as it came, in one write.
func writeHead(c net.Conn, res *http.Response) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "HTTP/1.1 %s\r\n", res.Status)
	_ = res.Header.Write(&b) // a buffer takes all
	b.WriteString("\r\n")
	_, err := c.Write(b.Bytes())
	return err
}

func closeWrite(c net.Conn) error {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Close()
}
