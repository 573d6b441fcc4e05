package lab

import (
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
)

// nsOutput runs a command in a network namespace, for the checks that have no test at hand.
func nsOutput(netns string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "nsenter", append([]string{"--net=/run/netns/" + netns}, args...)...).Output()
	return string(out), err
}

// within runs f on a thread of its own inside a network namespace and throws the thread away.
func within(netns string, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread dies with the goroutine
		ns, err := os.Open("/run/netns/" + netns)
		if err != nil {
			done <- err
			return
		}
		defer ns.Close()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	return <-done
}

// Listen opens a TCP port on the host for a server that lives in the test.
func (h *Host) Listen(t testing.TB, addr string) net.Listener {
	t.Helper()
	return listenIn(t, h.netns, addr)
}

// ListenOutside opens a TCP port on the other machine.
func (h *Host) ListenOutside(t testing.TB, port string) net.Listener {
	t.Helper()
	return listenIn(t, h.client, net.JoinHostPort(h.Outside, port))
}

// ListenOutsideAt is ListenOutside at an address of the caller's choice.
func (h *Host) ListenOutsideAt(t testing.TB, addr string) net.Listener {
	t.Helper()
	return listenIn(t, h.client, addr)
}

func listenIn(t testing.TB, netns, addr string) net.Listener {
	t.Helper()
	var l net.Listener
	assert.NilError(t, within(netns, func() (err error) {
		var lc net.ListenConfig
		l, err = lc.Listen(context.Background(), "tcp", addr)
		return err
	}))
	return l
}

// ListenPacket is Listen for UDP.
func (h *Host) ListenPacket(t testing.TB, addr string) net.PacketConn {
	t.Helper()
	var c net.PacketConn
	assert.NilError(t, within(h.netns, func() (err error) {
		var lc net.ListenConfig
		c, err = lc.ListenPacket(context.Background(), "udp", addr)
		return err
	}))
	return c
}

// Transport makes a test's HTTP client speak from the host.
func (h *Host) Transport() http.RoundTripper {
	return &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, addr string) (c net.Conn, err error) {
			err = within(h.netns, func() (err error) {
				var d net.Dialer
				c, err = d.DialContext(ctx, network, addr)
				return err
			})
			return c, err
		},
	}
}

// DialOutside opens a UDP socket on the other machine that speaks to an address.
func (h *Host) DialOutside(t testing.TB, addr string) net.Conn {
	t.Helper()
	var c net.Conn
	assert.NilError(t, within(h.client, func() (err error) {
		var d net.Dialer
		c, err = d.DialContext(context.Background(), "udp", addr)
		return err
	}))
	return c
}
