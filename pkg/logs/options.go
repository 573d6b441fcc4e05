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

// mostFiles bounds how many files a log has, whatever more is asked for: each reader and each rotation looks for all of
// them, and the largest number there is kept a processor busy for hours after one `docker logs`.
const mostFiles = 10_000

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
	return min(n, mostFiles), nil
}
