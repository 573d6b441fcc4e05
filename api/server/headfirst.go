package server

import (
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Who reads the head of a raw stream by another way than the stream, as docker-py does, loses what comes along with the
// head. So what follows waits until the head was taken: for headWait at most, looked at every headLook.
const (
	headWait = 100 * time.Millisecond
	headLook = 50 * time.Microsecond
)

// headFirst is a connection taken over whose first write, the head, arrives on its own.
type headFirst struct {
	*net.UnixConn
	patience time.Duration
	begun    atomic.Bool
	taken    sync.Once
}

// alone gives conn with its head apart. Only at a unix socket can it be seen what the other side has read.
func alone(conn net.Conn) net.Conn {
	if c, ok := conn.(*net.UnixConn); ok {
		return &headFirst{UnixConn: c, patience: headWait}
	}
	return conn
}

// Write sends p, the second time and later only after what the first sent was read.
func (c *headFirst) Write(p []byte) (int, error) {
	if c.begun.Swap(true) {
		c.taken.Do(c.awaitReader)
	}
	return c.UnixConn.Write(p)
}

func (c *headFirst) awaitReader() {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	for end := time.Now().Add(c.patience); time.Now().Before(end); time.Sleep(headLook) {
		unread := 0
		if err := raw.Control(func(fd uintptr) { unread, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) }); err != nil || unread == 0 {
			return
		}
	}
}
