package server

import (
	"net"
	"testing"
	"time"

	"gotest.tools/v3/assert"
)

// unixPair gives both ends of a connection at a unix socket.
func unixPair(t *testing.T) (ours, client *net.UnixConn) {
	t.Helper()
	l, err := net.Listen("unix", t.TempDir()+"/s")
	assert.NilError(t, err)
	t.Cleanup(func() { l.Close() })
	c, err := net.Dial("unix", l.Addr().String())
	assert.NilError(t, err)
	t.Cleanup(func() { c.Close() })
	o, err := l.Accept()
	assert.NilError(t, err)
	t.Cleanup(func() { o.Close() })
	return o.(*net.UnixConn), c.(*net.UnixConn)
}

func TestHeadOfAStreamArrivesAlone(t *testing.T) {
	ours, client := unixPair(t)
	c := &headFirst{UnixConn: ours, patience: time.Hour}
	_, err := c.Write([]byte("head"))
	assert.NilError(t, err)
	written := make(chan struct{})
	go func() {
		defer close(written)
		for range 2 {
			_, err := c.Write([]byte("body"))
			assert.Check(t, err)
		}
	}()
	select {
	case <-written:
		t.Fatal("the stream went out before the head was read")
	case <-time.After(10 * time.Millisecond):
	}
	buf := make([]byte, 4096)
	n, err := client.Read(buf)
	assert.NilError(t, err)
	assert.Equal(t, string(buf[:n]), "head")
	<-written
	n, err = client.Read(buf)
	assert.NilError(t, err)
	assert.Equal(t, string(buf[:n]), "bodybody")
}

func TestStreamDoesNotWaitForAReaderForever(t *testing.T) {
	ours, _ := unixPair(t)
	c := &headFirst{UnixConn: ours, patience: time.Millisecond}
	for _, part := range []string{"head", "body"} {
		_, err := c.Write([]byte(part))
		assert.NilError(t, err)
	}
}
