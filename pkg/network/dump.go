package network

import (
	"errors"

	"github.com/vishvananda/netlink"
)

// dumpTries bounds how often a list is asked for. The kernel marks one as torn when anything changed while it was
// written, which on a host that starts and ends containers all the time may happen a few times running.
const dumpTries = 20

// untorn asks for a list again until the kernel gives it in one piece.
func untorn[T any](list func() (T, error)) (T, error) {
	for try := 1; ; try++ {
		v, err := list()
		if !errors.Is(err, netlink.ErrDumpInterrupted) || try == dumpTries {
			return v, err
		}
	}
}
