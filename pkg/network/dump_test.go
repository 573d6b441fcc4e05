package network

import (
	"errors"
	"testing"

	"github.com/vishvananda/netlink"
	"gotest.tools/v3/assert"
)

func TestTornListIsAskedForAgain(t *testing.T) {
	other := errors.New("no such device")
	for _, tt := range []struct {
		name  string
		fails int
		with  error
		calls int
		want  error
	}{
		{"whole at once", 0, nil, 1, nil},
		{"torn twice", 2, netlink.ErrDumpInterrupted, 3, nil},
		{"torn for ever", 1000, netlink.ErrDumpInterrupted, dumpTries, netlink.ErrDumpInterrupted},
		{"another failure", 1000, other, 1, other},
	} {
		t.Run(tt.name, func(t *testing.T) {
			calls := 0
			_, err := untorn(func() (int, error) {
				if calls++; calls <= tt.fails {
					return 0, tt.with
				}
				return 7, nil
			})
			assert.Equal(t, calls, tt.calls)
			assert.Assert(t, errors.Is(err, tt.want) || tt.want == nil && err == nil, "got %v", err)
		})
	}
}
