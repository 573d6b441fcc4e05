package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/spf13/pflag"
	"gotest.tools/v3/assert"
)

func readTestConfig(t *testing.T, text string, args ...string) (options, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "nereid.yaml")
	assert.NilError(t, os.WriteFile(path, []byte(text), 0o600))
	var o options
	f := pflag.NewFlagSet("daemon", pflag.ContinueOnError)
	o.flags(f)
	assert.NilError(t, f.Parse(args))
	return o, readConfig(f, path)
}

func TestConfigFile(t *testing.T) {
	o, err := readTestConfig(t, `
name: h2
label: [rack=r1, disk=ssd]
debug: true
overcommit-memory: 1.5
join: 10.0.0.1:2377
`, "--name", "h3")
	assert.NilError(t, err)
	assert.Equal(t, o.name, "h3", "what the command line says counts more")
	assert.DeepEqual(t, o.labels, []string{"rack=r1", "disk=ssd"})
	assert.Assert(t, o.debug)
	assert.Equal(t, o.overMemory, 1.5)
	assert.Equal(t, o.join, "10.0.0.1:2377")
}

func TestConfigFileSaysAllThatIsWrong(t *testing.T) {
	_, err := readTestConfig(t, "naming: h1\ndebug: perhaps\nlabel: {a: b}\n")
	for _, want := range []string{"there is no flag --naming", "debug: ", "label: "} {
		assert.ErrorContains(t, err, want)
	}
	_, err = readTestConfig(t, "- a\n")
	assert.ErrorContains(t, err, "--config ")
}

func TestWhatAJoinNeeds(t *testing.T) {
	const token = "NRTKN-1-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-secret"
	for _, c := range []struct {
		name, want string
		args       []string
	}{
		{"all", "", []string{"--join", "10.0.0.1:2377", "--token", token, "--server"}},
		{"no token", "--join needs a --token", []string{"--join", "10.0.0.1:2377"}},
		{"no address", "go with --join", []string{"--server"}},
		{"no port", `--join "10.0.0.1": not ADDR:PORT`, []string{"--join", "10.0.0.1", "--token", token}},
		{"not a token", "not a join token", []string{"--join", "10.0.0.1:2377", "--token", "x"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var o options
			f := pflag.NewFlagSet("daemon", pflag.ContinueOnError)
			o.flags(f)
			assert.NilError(t, f.Parse(append([]string{"--name", "h1"}, c.args...)))
			if err := o.validate(); c.want == "" {
				assert.NilError(t, err)
			} else {
				assert.ErrorContains(t, err, c.want)
			}
		})
	}
}
