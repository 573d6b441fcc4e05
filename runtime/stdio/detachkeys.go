package stdio

// defaultDetachKeys are ctrl-p ctrl-q.
var defaultDetachKeys = []byte{16, 17}

// detachKeys finds the keys that detach a client in what it types. A beginning of them is held back until it is clear
// whether they follow; when they do not, it is passed on together with what came instead, as Docker does.
type detachKeys struct {
	keys    []byte // none: everything is passed on
	matched int
	out     []byte
}

// filter gives what of p is to be passed on, valid until the next call.
func (d *detachKeys) filter(p []byte) (out []byte, detached bool) {
	if len(d.keys) == 0 {
		return p, false
	}
	d.out = d.out[:0]
	for _, b := range p {
		if b == d.keys[d.matched] {
			d.matched++
			if d.matched == len(d.keys) {
				return d.out, true
			}
			continue
		}
		d.out = append(append(d.out, d.held()...), b)
		d.matched = 0
	}
	return d.out, false
}

// held is what is held back.
func (d *detachKeys) held() []byte { return d.keys[:d.matched] }
