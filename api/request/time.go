package request

import (
	"time"

	timetypes "github.com/docker/docker/api/types/time"
)

// Time reads a point in time: seconds, or seconds and nanoseconds with a dot between. Empty is the zero time.
func Time(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	sec, nsec, err := timetypes.ParseTimestamps(s, 0)
	if err != nil {
		return time.Time{}, err
	}
	return time.Unix(sec, nsec), nil
}
