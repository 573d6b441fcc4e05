package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Listen opens what a -H flag names: unix:///path or tcp://address:port, the latter on loopback addresses only, for
// whoever reaches the API is root on this host.
func Listen(ctx context.Context, host string) (net.Listener, error) {
	proto, addr, ok := strings.Cut(host, "://")
	if !ok || addr == "" {
		return nil, fmt.Errorf("listening address %q: not of the form unix:///path or tcp://address:port", host)
	}
	switch proto {
	case "unix":
		return listenUnix(ctx, addr)
	case "tcp":
		return listenTCP(ctx, addr)
	}
	return nil, fmt.Errorf("listening address %q: unknown protocol %q", host, proto)
}

func listenTCP(ctx context.Context, addr string) (net.Listener, error) {
	name, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("listening address tcp://%s: %w", addr, err)
	}
	if ip := net.ParseIP(name); name != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("listening address tcp://%s: refused: without TLS, only loopback addresses are served, because whoever connects is root on this host", addr)
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listening address tcp://%s: %w", addr, err)
	}
	return l, nil
}

// socketMode lets root and the group docker in.
const socketMode = 0o660

func listenUnix(ctx context.Context, path string) (_ net.Listener, retErr error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("listening address unix://%s: %w", path, err)
	}
	if err := removeStale(ctx, path); err != nil {
		return nil, fmt.Errorf("listening address unix://%s: %w", path, err)
	}
	// Made under a mask: nobody else may connect before the mode is set.
	old := syscall.Umask(0o777 &^ socketMode)
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	syscall.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("listening address unix://%s: %w", path, err)
	}
	defer func() {
		if retErr != nil {
			_ = l.Close()
		}
	}()
	if err := os.Chmod(path, socketMode); err != nil {
		return nil, fmt.Errorf("listening address unix://%s: %w", path, err)
	}
	if gid, ok := dockerGroup(); ok {
		if err := os.Chown(path, 0, gid); err != nil {
			return nil, fmt.Errorf("listening address unix://%s: %w", path, err)
		}
	}
	return l, nil
}

// answerTime is ample for a daemon on the same machine to accept a connection.
const answerTime = time.Second

// removeStale removes a socket that a dead daemon left. One that somebody answers on stays, and so does a file that is
// no socket.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode()&os.ModeSocket == 0 {
		return errors.New("there is a file that is no socket")
	}
	conn, err := (&net.Dialer{Timeout: answerTime}).DialContext(ctx, "unix", path)
	if err == nil {
		_ = conn.Close()
		return errors.New("another daemon answers there")
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return err // a full backlog, for one, means that somebody is there
	}
	return os.Remove(path)
}

// dockerGroup finds the group whose members may use the socket.
func dockerGroup() (gid int, ok bool) {
	g, err := user.LookupGroup("docker")
	if err != nil {
		return 0, false
	}
	gid, err = strconv.Atoi(g.Gid)
	return gid, err == nil
}
