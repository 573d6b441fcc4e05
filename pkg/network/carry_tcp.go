package network

import (
	"context"
	"io"
	"net"
	"sync"
	"time"

	"go.uber.org/zap"
)

const (
	// maxConns of one port are carried at once; more wait in the listener's queue.
	maxConns = 1024
	// dialTimeout is how long a container may take to accept: it is on this host or one hop away.
	dialTimeout = 10 * time.Second
	// acceptPause is the pause after a failure to accept: the process may be out of file descriptors for a moment.
	acceptPause = 50 * time.Millisecond
)

// carryTCP accepts connections and copies between them and the container until the listener is closed.
func (h *hold) carryTCP(ctx context.Context, l *net.TCPListener) {
	places := make(chan struct{}, maxConns)
	for {
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			return
		}
		client, err := l.AcceptTCP()
		if err != nil {
			<-places
			if !pause(ctx, acceptPause) {
				return
			}
			continue
		}
		h.done.Go(func() {
			defer func() { <-places }()
			h.carryConn(ctx, client)
		})
	}
}

// pause waits; false when the context ended.
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

// carryConn copies both ways until both have ended. Each end of one side is passed on to the other by itself.
func (h *hold) carryConn(ctx context.Context, client *net.TCPConn) {
	defer func() { _ = client.Close() }()
	dialer := net.Dialer{Timeout: dialTimeout}
	conn, err := dialer.DialContext(ctx, "tcp", h.target.Load().String())
	if err != nil {
		_ = client.SetLinger(0) // a reset: nobody is there
		h.log.Debug("no connection to the container", zap.Error(err))
		return
	}
	server := conn.(*net.TCPConn)
	defer func() { _ = server.Close() }()
	stop := context.AfterFunc(ctx, func() { _, _ = client.Close(), server.Close() })
	defer stop()
	var both sync.WaitGroup
	both.Go(func() { copyHalf(server, client) })
	both.Go(func() { copyHalf(client, server) })
	both.Wait()
}

// copyHalf copies until from ends and tells to. A failure ends the whole connection.
func copyHalf(to, from *net.TCPConn) {
	if _, err := io.Copy(to, from); err != nil {
		_, _ = to.Close(), from.Close()
		return
	}
	_ = to.CloseWrite()
}
