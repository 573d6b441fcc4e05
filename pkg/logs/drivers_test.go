package logs

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"gotest.tools/v3/assert"
)

// options makes a map of "name=value …".
func parseOpts(line string) map[string]string {
	opts := map[string]string{}
	for _, f := range strings.Fields(line) {
		name, v, _ := strings.Cut(f, "=")
		opts[name] = v
	}
	return opts
}

func TestValidateOfEveryDriver(t *testing.T) {
	for _, tc := range []struct{ driver, opts, err string }{
		{Local, "max-size=1m max-file=2 compress=false mode=non-blocking max-buffer-size=1m", ""},
		{Local, "max-size=bad", ""}, // found when the log is opened
		{Local, "labels=a", "unknown log opt 'labels' for log driver local"},
		{Local, "cache-disabled=maybe", "invalid value for option cache-disabled: maybe"},
		{Local, "cache-disabled=true cache-max-size=1m", ""},

		{Syslog, "", ""},
		{Syslog, "syslog-address=udp://127.0.0.1 syslog-facility=local3 syslog-format=rfc5424micro tag={{.Name}} labels=a env-regex=^A", ""},
		{Syslog, "syslog-address=tcp+tls://h:6514 syslog-tls-ca-cert=/a syslog-tls-cert=/b syslog-tls-key=/c syslog-tls-skip-verify=1", ""},
		{Syslog, "syslog-facility=23", ""},
		{Syslog, "syslog-facility=24", "invalid syslog facility"},
		{Syslog, "syslog-facility=nosuch", "invalid syslog facility"},
		{Syslog, "syslog-format=rfc1", "Invalid syslog format"},
		{Syslog, "syslog-address=http://x", "unsupported scheme: 'http'"},
		{Syslog, "syslog-address=unix:///no/such/socket", "stat /no/such/socket: no such file or directory"},
		{Syslog, "syslog-address=tcp://a:b:c", "parse \"tcp://a:b:c\": invalid port \":c\" after host"},
		{Syslog, "max-size=1m", "unknown log opt 'max-size' for syslog log driver"},

		{Fluentd, "", ""},
		{Fluentd, "fluentd-address=unix:///f.sock fluentd-async=true fluentd-async-reconnect-interval=1s fluentd-buffer-limit=4m fluentd-max-retries=3", ""},
		{Fluentd, "fluentd-address=h:1 fluentd-request-ack=true fluentd-retry-wait=2s fluentd-sub-second-precision=1 fluentd-write-timeout=1s", ""},
		{Fluentd, "fluentd-address=tls://h", ""},
		{Fluentd, "fluentd-address=udp://h", "invalid fluentd-address (udp://h): unsupported scheme: 'udp'"},
		{Fluentd, "fluentd-address=h:1/x", "invalid fluentd-address (h:1/x): should not contain a path element"},
		{Fluentd, "fluentd-address=unix:///", "invalid fluentd-address (unix:///): path is empty"},
		{Fluentd, "fluentd-address=h:99999", "invalid fluentd-address (h:99999): invalid port: strconv.ParseUint: parsing \"99999\": value out of range"},
		{Fluentd, "fluentd-async=x", `strconv.ParseBool: parsing "x": invalid syntax`},
		{Fluentd, "fluentd-buffer-limit=x", "invalid size: 'x'"},
		{Fluentd, "fluentd-max-retries=-1", `strconv.ParseUint: parsing "-1": invalid syntax`},
		{Fluentd, "fluentd-max-retries=4294967295", "invalid fluentd-max-retries: value out of range"},
		{Fluentd, "fluentd-retry-wait=x", `time: invalid duration "x"`},
		{Fluentd, "fluentd-write-timeout=-1s", "invalid value for fluentd-write-timeout: value must be a duration that is non-negative"},
		{Fluentd, "fluentd-write-timeout=x", `invalid value for fluentd-write-timeout: value must be a duration: time: invalid duration "x"`},
		{Fluentd, "fluentd-async-reconnect-interval=1ms", `invalid value for fluentd-async-reconnect-interval: value ("1ms") must be between 100ms and 10s`},
		{Fluentd, "fluentd=x", "unknown log opt 'fluentd' for fluentd log driver"},

		{GELF, "", "gelf-address is a required parameter"},
		{GELF, "gelf-address=udp://h:1 gelf-compression-type=zlib gelf-compression-level=9", ""},
		{GELF, "gelf-address=tcp://h:1 gelf-tcp-max-reconnect=0 gelf-tcp-reconnect-delay=2", ""},
		{GELF, "gelf-address=http://h:1", "gelf: endpoint needs to be TCP or UDP"},
		{GELF, "gelf-address=udp://h", "gelf: please provide gelf-address as proto://host:port"},
		{GELF, "gelf-address=tcp://h:1 gelf-compression-type=gzip", "compression is only supported on UDP"},
		{GELF, "gelf-address=udp://h:1 gelf-compression-type=lz4", `unknown value "lz4" for log opt "gelf-compression-type" for gelf log driver`},
		{GELF, "gelf-address=udp://h:1 gelf-compression-level=10", `unknown value "10" for log opt "gelf-compression-level" for gelf log driver`},
		{GELF, "gelf-address=udp://h:1 gelf-tcp-max-reconnect=1", `"gelf-tcp-max-reconnect" is only valid for TCP`},
		{GELF, "gelf-address=tcp://h:1 gelf-tcp-reconnect-delay=-1", `"gelf-tcp-reconnect-delay" must be a positive integer`},
		{GELF, "gelf-address=udp://h:1 nosuch=1", `unknown log opt "nosuch" for gelf log driver`},
	} {
		t.Run(tc.driver+" "+tc.opts, func(t *testing.T) {
			err := Validate(tc.driver, parseOpts(tc.opts))
			if tc.err == "" {
				assert.NilError(t, err)
				return
			}
			assert.Error(t, err, tc.err)
			assert.Assert(t, errdefs.IsInvalidArgument(err))
		})
	}
}

func TestLocalRefusesBadValues(t *testing.T) {
	for _, tc := range []struct{ opts, err string }{
		{"max-size=x", "invalid value for max-size: x: invalid size: 'x'"},
		{"max-file=x", `invalid value for max-file: x: strconv.Atoi: parsing "x": invalid syntax`},
		{"compress=x", `error reading compress log option: strconv.ParseBool: parsing "x": invalid syntax`},
		{"max-file=1", "compression cannot be enabled when max file count is 1"},
		{"max-file=-1 compress=false", "max file count cannot be less than 0"},
	} {
		_, err := Open(Local, filepath.Join(t.TempDir(), "log"), parseOpts(tc.opts))
		assert.Error(t, err, tc.err)
	}
}

// TestLocalIsReadBack: the driver has files of its own, in a directory that it makes, without attributes.
func TestLocalIsReadBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "local-logs", "container.log")
	w, err := Open(Local, path, parseOpts("max-size=1k max-file=3"))
	assert.NilError(t, err)
	var want []string
	for range 100 {
		logLine(t, w, "stdout", "a line of some length\n")
		want = append(want, "a line of some length\n")
	}
	assert.NilError(t, w.Close())
	got := readBack(t, Local, path, "max-size=1k max-file=3")
	assert.Assert(t, len(got) > 10 && len(got) < len(want), "%d lines kept", len(got))
	assert.DeepEqual(t, got, want[:len(got)])
}

func TestWhatCanBeRead(t *testing.T) {
	for _, tc := range []struct {
		driver, opts string
		want         bool
	}{
		{JSONFile, "", true},
		{Local, "cache-disabled=true", true},
		{None, "", false},
		{Syslog, "", true},
		{Syslog, "cache-disabled=false", true},
		{Syslog, "cache-disabled=true", false},
	} {
		assert.Equal(t, Readable(tc.driver, parseOpts(tc.opts)), tc.want, "%s %s", tc.driver, tc.opts)
	}
}
