package volume_test

import (
	"testing"

	"github.com/containerd/errdefs"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/pkg/volume"
)

type opts = map[string]string

func TestParseOptions(t *testing.T) {
	tests := []struct {
		name string
		opts opts
		want volume.Options
		err  string
	}{
		{name: "none"},
		{name: "bind", opts: opts{"type": "none", "o": "bind", "device": "/d"}, want: volume.Options{Type: "none", Device: "/d", Mount: "bind"}},
		{name: "nfs", opts: opts{"type": "nfs", "o": "addr=1.2.3.4,ro", "device": ":/x"}, want: volume.Options{Type: "nfs", Device: ":/x", Mount: "addr=1.2.3.4,ro"}},
		{name: "tmpfs", opts: opts{"type": "tmpfs", "device": "tmpfs"}, want: volume.Options{Type: "tmpfs", Device: "tmpfs"}},
		{name: "size", opts: opts{"size": "1g"}, want: volume.Options{Size: 1 << 30}},
		{name: "no size", opts: opts{"size": "0"}},
		{name: "empty type", opts: opts{"type": "", "device": "/d"}, want: volume.Options{Device: "/d"}},
		{name: "bad size", opts: opts{"size": "much"}, err: "invalid size: 'much'"},
		{name: "unknown", opts: opts{"color": "blue"}, err: `invalid option: "color"`},
		{name: "device alone", opts: opts{"device": "/d"}, err: `missing required option: "type"`},
		{name: "type alone", opts: opts{"type": "tmpfs"}, err: `missing required option: "device"`},
		{name: "o alone", opts: opts{"o": "bind"}, err: `missing required option: "device"`},
		{name: "relative device", opts: opts{"type": "none", "o": "bind", "device": "d"}, err: "volume option device=d: must be an absolute path"},
		{name: "share with a port", opts: opts{"type": "cifs", "device": "//server:99/x"}, err: "port not allowed in CIFS device URL, include 'port' in 'o='"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			got, err := volume.ParseOptions(tc.opts)
			if tc.err != "" {
				assert.Error(t, err, tc.err)
				assert.ErrorType(t, err, errdefs.IsInvalidArgument)
				return
			}
			assert.NilError(t, err)
			assert.Equal(t, got, tc.want)
		})
	}
}
