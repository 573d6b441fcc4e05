package state

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
)

// decode gives the record or event stored under a key; both nil for a key of no kind we know, which a newer version
// of ours in the fleet may have written.
func decode(key string, value []byte, rev Revision) (Record, *Event, error) {
	if strings.HasPrefix(key, eventPrefix) {
		e, err := decodeEvent(key, value, rev)
		return nil, e, err
	}
	r := newRecord(key)
	if r == nil {
		return nil, nil, nil
	}
	if err := json.Unmarshal(value, r); err != nil {
		return nil, nil, fmt.Errorf("record %q is damaged: %w: %w", key, err, errdefs.ErrDataLoss)
	}
	r.meta().Rev = rev
	return r, nil, nil
}

func decodeEvent(key string, value []byte, rev Revision) (*Event, error) {
	e := &Event{}
	if err := json.Unmarshal(value, e); err != nil {
		return nil, fmt.Errorf("event %q is damaged: %w: %w", key, err, errdefs.ErrDataLoss)
	}
	stamp, err := stampOf(key)
	if err != nil {
		return nil, err
	}
	e.Rev, e.stamp = rev, stamp
	return e, nil
}

func stampOf(key string) (int64, error) {
	_, rest, _ := strings.Cut(strings.TrimPrefix(key, eventPrefix), "/")
	digits, _, _ := strings.Cut(rest, "/")
	stamp, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("event key %q: %w: %w", key, err, errdefs.ErrDataLoss)
	}
	return stamp, nil
}

func encode(v any) (string, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("encode %T: %w: %w", v, err, errdefs.ErrInvalidArgument)
	}
	return string(b), nil
}
