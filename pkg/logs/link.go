package logs

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"time"
)

const (
	// dialTimeout bounds the connecting to a receiver: a start that waits for it must not take minutes.
	dialTimeout = 5 * time.Second
	// redialPause is how soon after a failure the receiver is tried again: output may come by the thousand lines.
	redialPause = 100 * time.Millisecond
)

// link is a connection to a receiver that is made again when it breaks. One goroutine uses it.
type link struct {
	network, address string
	tls              *tls.Config   // nil: none
	writeTimeout     time.Duration // 0: none
	maxAge           time.Duration // after which it is made anew, so that a balancer may choose again; 0: never

	conn   net.Conn
	since  time.Time
	failed time.Time // when it could not be made last
}

// open connects, unless it is connected.
func (l *link) open(ctx context.Context) error {
	if l.conn != nil && l.maxAge > 0 && time.Since(l.since) > l.maxAge {
		l.drop()
	}
	if l.conn != nil {
		return nil
	}
	if time.Since(l.failed) < redialPause {
		return fmt.Errorf("no connection to %s", l.address)
	}
	d := &net.Dialer{Timeout: dialTimeout}
	var err error
	if l.tls != nil {
		l.conn, err = (&tls.Dialer{NetDialer: d, Config: l.tls}).DialContext(ctx, l.network, l.address)
	} else {
		l.conn, err = d.DialContext(ctx, l.network, l.address)
	}
	l.since = time.Now()
	if err != nil {
		l.conn, l.failed = nil, l.since
	}
	return err
}

// write sends bytes. After an error the connection is a new one.
func (l *link) write(ctx context.Context, p []byte) error {
	if err := l.open(ctx); err != nil {
		return err
	}
	return l.use(ctx, func() error {
		_, err := l.conn.Write(p)
		return err
	})
}

// use does something with the connection until the context ends or the time for it is over.
func (l *link) use(ctx context.Context, do func() error) error {
	var deadline time.Time
	if l.writeTimeout > 0 {
		deadline = time.Now().Add(l.writeTimeout)
	}
	if err := l.conn.SetDeadline(deadline); err != nil {
		l.drop()
		return err
	}
	conn := l.conn
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := do(); err != nil {
		l.drop()
		return err
	}
	return nil
}

func (l *link) drop() {
	_ = l.conn.Close()
	l.conn = nil
}

func (l *link) close() error {
	if l.conn == nil {
		return nil
	}
	return l.conn.Close()
}
