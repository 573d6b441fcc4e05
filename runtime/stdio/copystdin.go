package stdio

// stdinChunk is how much of a client's stdin is read at once; as much as a FIFO holds would only wait there.
const stdinChunk = 32 << 10

// copyStdin copies the client's stdin to the process until it ends or holds the detach keys. What the process does not
// take, having closed its stdin or being gone, is thrown away: the client ends when its own streams say so.
func (a *attachment) copyStdin() error {
	err := a.forwardStdin()
	if err == nil && a.outlivesStdin() {
		// The process goes on without; what can fail is telling the shim, and that is its caller's to know.
		_ = a.io.CloseStdin()
	}
	return err
}

func (a *attachment) forwardStdin() error {
	keys := detachKeys{}
	if a.io.cfg.Tty {
		keys.keys = a.streams.DetachKeys
		if len(keys.keys) == 0 {
			keys.keys = defaultDetachKeys
		}
	}
	buf := make([]byte, stdinChunk)
	for {
		n, rerr := a.streams.Stdin.Read(buf)
		if a.left.Load() {
			return nil
		}
		out, detached := keys.filter(buf[:n])
		if rerr != nil && !detached {
			out = append(out, keys.held()...)
		}
		a.toProcess(out)
		if detached {
			return ErrDetached
		}
		if rerr != nil {
			return nil
		}
	}
}

func (a *attachment) toProcess(p []byte) {
	if len(p) == 0 || a.io.stdin == nil {
		return
	}
	_, _ = a.io.stdin.Write(p)
}
