package logs

import (
	"fmt"
	"strconv"

	"github.com/docker/go-units"
)

// options of json-file, parsed.
type options struct {
	maxSize  int64 // bytes; 0: no limit
	maxFiles int   // the current one included, at least 1
	compress bool
}

// knownOptions of json-file. Its mode is honoured either way: a container never waits for a reader of its log, only
// for the page cache, and what cannot be written is dropped.
var knownOptions = map[string]bool{
	"max-file": true, "max-size": true, "compress": true, "labels": true, "labels-regex": true,
	"env": true, "env-regex": true, "tag": true,
	"mode": true, "max-buffer-size": true,
	"cache-disabled": true, "cache-max-file": true, "cache-max-size": true, "cache-compress": true,
}

// Validate checks a container's log configuration as Docker does when the container is created: the driver and the
// names of its options; values are looked at when the log is opened. Errors are invalid arguments.
func Validate(driver string, opts map[string]string) error {
	if driver == None {
		return nil
	}
	if err := validateMode(opts); err != nil {
		return err
	}
	if driver != JSONFile {
		return invalidf("logger: no log driver named '%s' is registered", driver)
	}
	for name := range opts {
		if !knownOptions[name] {
			return invalidf("unknown log opt '%s' for json-file log driver", name)
		}
	}
	return nil
}

func validateMode(opts map[string]string) error {
	mode := opts["mode"]
	if mode != "" && mode != "blocking" && mode != "non-blocking" {
		return invalidf("logger: logging mode not supported: %s", mode)
	}
	size, ok := opts["max-buffer-size"]
	if !ok {
		return nil
	}
	if mode != "non-blocking" {
		return invalidf("logger: max-buffer-size option is only supported with 'mode=%s'", "non-blocking")
	}
	if _, err := units.RAMInBytes(size); err != nil {
		return invalidf("error parsing option max-buffer-size: %w", err)
	}
	return nil
}

func parseOptions(opts map[string]string) (o options, err error) {
	if o.maxSize, err = parseMaxSize(opts); err != nil {
		return o, err
	}
	if o.maxFiles, err = parseMaxFile(opts); err != nil {
		return o, err
	}
	if v, ok := opts["compress"]; ok {
		if o.compress, err = strconv.ParseBool(v); err != nil {
			return o, err
		}
	}
	if o.compress && (o.maxFiles == 1 || o.maxSize == 0) {
		return o, fmt.Errorf("compress cannot be true when max-file is less than 2 or max-size is not set")
	}
	return o, nil
}

func parseMaxSize(opts map[string]string) (int64, error) {
	v, ok := opts["max-size"]
	if !ok {
		return 0, nil
	}
	n, err := units.FromHumanSize(v)
	if err != nil {
		return 0, err
	}
	if n <= 0 {
		return 0, fmt.Errorf("max-size must be a positive number")
	}
	return n, nil
}

func parseMaxFile(opts map[string]string) (int, error) {
	v, ok := opts["max-file"]
	if !ok {
		return 1, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		return 0, err
	}
	if n < 1 {
		return 0, fmt.Errorf("max-file cannot be less than 1")
	}
	return n, nil
}
