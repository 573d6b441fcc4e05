// Command nereid-shim starts containerd's shim for runc and costs little. Containerd runs a shim's program once to have it
// start another of itself; the shim is large, and most of what that takes is to load it. This program, which knows
// nothing else, makes the socket and starts the shim beside it. Whatever it does not know it leaves to the shim.
package main

import (
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// shimName is the program that serves, beside this one.
const shimName = "containerd-shim-runc-v2"

func main() {
	if err := run(os.Args, os.Stdin, os.Stdout); err != nil {
		_, _ = os.Stderr.WriteString("nereid-shim: " + err.Error())
		os.Exit(1)
	}
}

// run starts a shim when asked as containerd asks, and becomes the shim otherwise.
func run(args []string, in io.Reader, out io.Writer) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	shim := filepath.Join(filepath.Dir(self), shimName)
	if args[len(args)-1] != "start" {
		return syscall.Exec(shim, args, os.Environ())
	}
	asked, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	p, ok := parse(asked)
	if !ok {
		return become(shim, args, asked)
	}
	address, err := start(shim, p)
	if err != nil {
		return err
	}
	_, err = out.Write(answer(address))
	return err
}

// become has the shim do what was asked of this program, whose input is read already.
func become(shim string, args []string, input []byte) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	if _, err := w.Write(input); err != nil { // a few hundred bytes, and a pipe holds 64 KiB
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	if err := syscall.Dup2(int(r.Fd()), 0); err != nil {
		return err
	}
	return syscall.Exec(shim, args, os.Environ())
}
