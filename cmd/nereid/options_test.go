package main

import (
	"testing"

	"github.com/spf13/pflag"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

func TestOptionsSayAllThatIsWrong(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		want []string // each in the error; none: valid
	}{
		{name: "defaults", args: []string{"--name", "h1"}},
		{name: "two hosts", args: []string{"--name", "h1", "-H", "unix:///run/x.sock", "-H", "tcp://127.0.0.1:2375"}},
		{name: "name", args: []string{"--name", "H 1"}, want: []string{`--name "H 1"`}},
		{name: "several", args: []string{"--name", "h1", "--advertise", "x", "--label", "=v", "--data-root", "rel", "-H", "http://x"},
			want: []string{"--advertise", "--label", "--data-root", "-H"}},
		{name: "zone", args: []string{"--name", "h1", "--cns-zone", "a..b"}, want: []string{"--cns-zone"}},
		{name: "insecure registries", args: []string{"--name", "h1", "--insecure-registry", "reg:5000", "--insecure-registry", "10.0.0.0/8"}},
		{name: "mirrors", args: []string{"--name", "h1", "--registry-mirror", "https://m.example", "--registry-mirror", "http://10.0.0.1:5000/"}},
		{name: "mirror that is none", args: []string{"--name", "h1", "--registry-mirror", "m.example"}, want: []string{`--registry-mirror "m.example": neither http://HOST nor https://HOST`}},
		{name: "mirror with a path", args: []string{"--name", "h1", "--registry-mirror", "https://m.example/v2"}, want: []string{"no user, path, query or fragment may follow"}},
		{name: "insecure registry with a scheme", args: []string{"--name", "h1", "--insecure-registry", "http://reg:5000"}, want: []string{`--insecure-registry "http://reg:5000"`}},
		{name: "listen", args: []string{"--name", "h1", "--cns-listen", "53"}, want: []string{"--cns-listen"}},
		{name: "DNS over TLS", args: []string{"--name", "h1", "--cns-tls-listen", ":853", "--cns-tls-cert", "c", "--cns-tls-key", "k", "--cns-limits", "responses=0,queries=5", "--cns-unlimited", "192.0.2.0/24,2001:db8::1"}},
		{name: "DNS over TLS, bad", args: []string{"--name", "h1", "--cns-tls-listen", "853", "--cns-tls-cert", "c", "--cns-limits", "slip=x", "--cns-limits", "speed=1", "--cns-unlimited", "x"},
			want: []string{"--cns-tls-listen", "--cns-tls-key", `"slip=x"`, `"speed=1"`, "--cns-unlimited"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var o options
			f := pflag.NewFlagSet("daemon", pflag.ContinueOnError)
			o.flags(f)
			assert.NilError(t, f.Parse(c.args))
			err := o.validate()
			if len(c.want) == 0 {
				assert.NilError(t, err)
				return
			}
			for _, w := range c.want {
				assert.Assert(t, is.ErrorContains(err, w))
			}
		})
	}
}
