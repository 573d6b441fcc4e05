package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// backlog of the shim's socket: as much as Go's listeners have at most.
const backlog = 4096

// socketPath is where the shim of a container listens: containerd's rule, by which the shim removes it in the end.
func socketPath(p params) string {
	sum := sha256.Sum256([]byte(filepath.Join(p.grpcAddress, p.namespace, p.id)))
	return filepath.Join(p.socketDir, hex.EncodeToString(sum[:]))
}

// start starts the shim in the working directory, which is the container's bundle, and returns its address.
func start(shim string, p params) (address string, retErr error) {
	if err := os.Symlink(p.socketDir, "s"); err != nil { // where the shim finds the directory of its socket
		return "", err
	}
	path := socketPath(p)
	socket, err := listen(path)
	if err != nil {
		return "", err
	}
	defer socket.Close()
	defer func() {
		if retErr != nil {
			_ = os.Remove(path)
		}
	}()
	pid, err := spawn(shim, p, socket)
	if err != nil {
		return "", err
	}
	if err := adjustOOM(pid); err != nil {
		return "", errors.Join(err, syscall.Kill(pid, syscall.SIGKILL))
	}
	return "unix://" + path, nil
}

// listen makes the socket. One that is there already was left by a shim of the same container that is gone.
func listen(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	f := os.NewFile(uintptr(fd), path)
	at := &syscall.SockaddrUnix{Name: path}
	err = syscall.Bind(fd, at)
	if errors.Is(err, syscall.EADDRINUSE) {
		if err = os.Remove(path); err == nil {
			err = syscall.Bind(fd, at)
		}
	}
	if err == nil {
		err = os.Chmod(path, 0o600)
	}
	if err == nil {
		err = syscall.Listen(fd, backlog)
	}
	if err != nil {
		f.Close()
		return nil, &os.PathError{Op: "listen", Path: path, Err: err}
	}
	return f, nil
}

// spawn starts the program that serves, in a process group of its own.
func spawn(shim string, p params, socket *os.File) (pid int, err error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer null.Close()
	args := []string{shim, "-namespace", p.namespace, "-id", p.id, "-address", p.grpcAddress}
	return syscall.ForkExec(shim, args, &syscall.ProcAttr{
		Env:   os.Environ(), // GOMAXPROCS among it, from containerd
		Files: []uintptr{null.Fd(), null.Fd(), null.Fd(), socket.Fd()},
		Sys:   &syscall.SysProcAttr{Setpgid: true},
	})
}

// maxOOMScore is the kernel's.
const maxOOMScore = 1000

// adjustOOM has the kernel take the shim before it takes the daemon.
func adjustOOM(pid int) error {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(os.Getppid()) + "/oom_score_adj")
	if err != nil {
		return err
	}
	score, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return err
	}
	return os.WriteFile("/proc/"+strconv.Itoa(pid)+"/oom_score_adj", []byte(strconv.Itoa(min(score+1, maxOOMScore))), 0)
}
