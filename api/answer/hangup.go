package answer

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// OnHangup calls gone once the client has closed both ways of the connection, without reading from it: an attachment
// without stdin has no other way to know. A half-close is no hang-up. It ends with stop, which may be called twice.
// Connections that are not sockets have no such notice; for them it does nothing.
func (c *Conn) OnHangup(gone func()) (stop func(), err error) {
	sock, ok := c.Conn.(syscall.Conn)
	if !ok {
		return func() {}, nil
	}
	watch, err := hangupWatch(sock)
	if err != nil {
		return nil, fmt.Errorf("watching the connection for a hang-up: %w", err)
	}
	raw, err := watch.SyscallConn()
	if err != nil {
		_ = watch.Close()
		return nil, fmt.Errorf("watching the connection for a hang-up: %w", err)
	}
	go func() {
		events := make([]unix.EpollEvent, 1)
		// The runtime's poller wakes us when the inner one has an event: no thread waits.
		err := raw.Read(func(fd uintptr) bool {
			n, err := unix.EpollWait(int(fd), events, 0)
			return n > 0 || (err != nil && err != unix.EINTR)
		})
		if err == nil {
			gone()
		}
	}()
	return func() { _ = watch.Close() }, nil
}

// hangupWatch is a poller that becomes readable when the socket is closed both ways.
func hangupWatch(sock syscall.Conn) (_ *os.File, retErr error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	defer func() {
		if retErr != nil {
			_ = unix.Close(fd)
		}
	}()
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, err
	}
	raw, err := sock.SyscallConn()
	if err != nil {
		return nil, err
	}
	var addErr error
	if err := raw.Control(func(s uintptr) {
		addErr = unix.EpollCtl(fd, unix.EPOLL_CTL_ADD, int(s), &unix.EpollEvent{Events: unix.EPOLLHUP, Fd: int32(s)})
	}); err != nil {
		return nil, err
	}
	if addErr != nil {
		return nil, addErr
	}
	return os.NewFile(uintptr(fd), "hangup"), nil
}
