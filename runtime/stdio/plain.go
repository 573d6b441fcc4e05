package stdio

// plainBuffer is the source without a log: nothing of what it holds is needed once it was handed on.
type plainBuffer struct{ buf []byte }

func (p *plainBuffer) makeRoom(n int) int {
	if len(p.buf) < n {
		p.buf = make([]byte, max(n, 4096))
	}
	return n
}

func (p *plainBuffer) read(fd, n int) ([]byte, error) {
	n, err := readFully(fd, p.buf[:n])
	return p.buf[:n], err
}

func (p *plainBuffer) grown() bool { return len(p.buf) > 4096 }

func (p *plainBuffer) shrink() { p.buf = nil }
