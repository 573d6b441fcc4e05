package peer

import (
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

// writeHead sends the host's answer as it came.
func writeHead(c net.Conn, res *http.Response) error {
	if _, err := fmt.Fprintf(c, "HTTP/1.1 %s\r\n", res.Status); err != nil {
		return err
	}
	if err := res.Header.Write(c); err != nil {
		return err
	}
	_, err := io.WriteString(c, "\r\n")
	return err
}

func closeWrite(c net.Conn) error {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Close()
}
