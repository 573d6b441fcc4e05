package logs

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/docker/go-units"
)

// Names of the drivers.
const (
	JSONFile = "json-file"
	Local    = "local"
	Syslog   = "syslog"
	Fluentd  = "fluentd"
	GELF     = "gelf"
	None     = "none"
)

// Drivers lists the drivers there are, as info shows them: none is the absence of one.
func Drivers() []string { return []string{Fluentd, GELF, JSONFile, Local, Syslog} }

var (
	// attributeOptions choose what a driver adds to each message.
	attributeOptions = []string{"labels", "labels-regex", "env", "env-regex", "tag"}
	// commonOptions are of every driver, and no driver's concern.
	commonOptions = []string{"mode", "max-buffer-size", "cache-disabled", "cache-max-file", "cache-max-size", "cache-compress"}
	fileNames     = []string{"max-file", "max-size", "compress"}
)

// unknown gives the first option that is in none of the lists.
func unknown(opts map[string]string, lists ...[]string) string {
	for _, name := range sortedNames(opts) {
		if !slices.ContainsFunc(lists, func(list []string) bool { return slices.Contains(list, name) }) {
			return name
		}
	}
	return ""
}

// Validate checks a container's log configuration as Docker does when the container is created: the driver, the names of
// its options, and the values that the driver looks at then; others are looked at when the log is opened. Errors are
// invalid arguments.
func Validate(driver string, opts map[string]string) error {
	if driver == None {
		return nil
	}
	if err := validateMode(opts); err != nil {
		return err
	}
	if v := opts["cache-disabled"]; v != "" {
		if _, err := strconv.ParseBool(v); err != nil {
			return invalidf("invalid value for option cache-disabled: %s", v)
		}
	}
	own := map[string]string{}
	for name, v := range opts {
		if !slices.Contains(commonOptions, name) {
			own[name] = v
		}
	}
	if err := validateOwn(driver, own); err != nil {
		return invalid(err)
	}
	return nil
}

func validateOwn(driver string, opts map[string]string) error {
	switch driver {
	case JSONFile:
		if name := unknown(opts, fileNames, attributeOptions); name != "" {
			return fmt.Errorf("unknown log opt '%s' for json-file log driver", name)
		}
	case Local:
		if name := unknown(opts, fileNames); name != "" {
			return fmt.Errorf("unknown log opt '%s' for log driver local", name)
		}
	case Syslog:
		return checkSyslog(opts)
	case Fluentd:
		return checkFluentd(opts)
	case GELF:
		return checkGELF(opts)
	default:
		return fmt.Errorf("error looking up logging plugin %s: plugin %q not found", driver, driver) // Docker's, whose drivers can be plugins
	}
	return nil
}

// Readable tells whether a container's log can be read here: drivers that send it elsewhere keep a copy, unless that is
// turned off.
func Readable(driver string, opts map[string]string) bool {
	switch driver {
	case None:
		return false
	case JSONFile, Local:
		return true
	}
	disabled, _ := strconv.ParseBool(opts["cache-disabled"])
	return !disabled
}

// fileOptions are those of the file that a driver's log is kept in.
func fileOptions(driver string, opts map[string]string) (options, error) {
	switch driver {
	case JSONFile:
		return parseOptions(opts)
	case Local:
		return parseLocal(opts, "")
	}
	return parseLocal(opts, "cache-")
}

// What the driver local keeps where nothing is asked, and with it the copies of what other drivers send away.
const (
	localMaxSize  = 20 << 20
	localMaxFiles = 5
)

// parseLocal reads the options of the driver local, whose names have a prefix when they are of a copy.
func parseLocal(opts map[string]string, prefix string) (options, error) {
	o := options{maxSize: localMaxSize, maxFiles: localMaxFiles, compress: true}
	var err error
	if v, ok := opts[prefix+"max-size"]; ok {
		if o.maxSize, err = units.FromHumanSize(v); err != nil {
			return o, fmt.Errorf("invalid value for max-size: %s: %w", v, err)
		}
	}
	if v, ok := opts[prefix+"max-file"]; ok {
		if o.maxFiles, err = strconv.Atoi(v); err != nil {
			return o, fmt.Errorf("invalid value for max-file: %s: %w", v, err)
		}
	}
	if v, ok := opts[prefix+"compress"]; ok {
		if o.compress, err = strconv.ParseBool(v); err != nil {
			return o, fmt.Errorf("error reading compress log option: %w", err)
		}
	}
	switch {
	case o.maxSize < 0:
		return o, fmt.Errorf("max size should be a positive number")
	case o.maxFiles < 0:
		return o, fmt.Errorf("max file count cannot be less than 0")
	case o.compress && o.maxFiles <= 1:
		return o, fmt.Errorf("compression cannot be enabled when max file count is 1")
	}
	o.maxFiles = min(max(o.maxFiles, 1), mostFiles)
	return o, nil
}

// open makes the Writer of a driver whose options are valid.
func open(info Info, driver, path string, opts map[string]string, wait bool) (Writer, error) {
	o, err := fileOptions(driver, opts)
	if err != nil {
		return nil, invalid(err)
	}
	switch driver {
	case JSONFile:
		attrs, err := attributes(info, opts)
		if err != nil {
			return nil, invalid(err)
		}
		return openJSONFile(path, o, attrs)
	case Local:
		return openCopy(path, o)
	}
	return openSender(info, driver, path, o, opts, wait)
}

// openCopy opens a log that nobody but us reads, in a directory of its own.
func openCopy(path string, o options) (*jsonFile, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	return openJSONFile(path, o, nil)
}

// openSender opens a driver that sends the log elsewhere.
func openSender(info Info, driver, path string, o options, opts map[string]string, wait bool) (_ Writer, retErr error) {
	info.Config = opts
	if opts["tag"] == "" {
		opts = withDefaultTag(opts)
	}
	to, limit, err := openReceiver(info, driver, opts)
	if err != nil && wait {
		return nil, invalid(err)
	}
	if err != nil { // what was there when the container started is not any more, such as a certificate
		to, limit = unreachable{err}, remoteBuffer
	}
	if v, ok := opts["max-buffer-size"]; ok {
		if limit, err = units.RAMInBytes(v); err != nil {
			return nil, invalid(err)
		}
	}
	var cache *jsonFile
	if Readable(driver, opts) {
		if cache, err = openCopy(path, o); err != nil {
			return nil, err
		}
	}
	r, err := openRemote(to, cache, newQueue(limit, opts["mode"] != "non-blocking"), wait)
	if err != nil {
		if cache != nil {
			_ = cache.Close()
		}
		return nil, err
	}
	return r, nil
}

func withDefaultTag(opts map[string]string) map[string]string {
	all := map[string]string{}
	maps.Copy(all, opts)
	all["tag"] = "{{.ID}}"
	return all
}

func openReceiver(info Info, driver string, opts map[string]string) (to receiver, buffer int64, err error) {
	switch driver {
	case Syslog:
		to, err = openSyslog(info, opts)
	case GELF:
		to, err = openGELF(info, opts)
	default:
		f, err := openFluentd(info, opts)
		if err != nil {
			return nil, 0, err
		}
		return f, f.buffer, nil
	}
	return to, remoteBuffer, err
}
