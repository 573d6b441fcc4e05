package lab

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"gotest.tools/v3/assert"
)

// eventKeys is where the state has events, which are kept for hours by design.
const eventKeys = "/nereid/v1/events/"

// Records lists the keys of the state, events left out.
func (h *Host) Records(t testing.TB) string {
	t.Helper()
	return strings.Join(slices.DeleteFunc(h.keys(t), isEvent), "\n")
}

// Events counts the events that the state keeps.
func (h *Host) Events(t testing.TB) int {
	t.Helper()
	all := h.keys(t)
	return len(all) - len(slices.DeleteFunc(slices.Clone(all), isEvent))
}

func isEvent(key string) bool { return strings.HasPrefix(key, eventKeys) }

func (h *Host) keys(t testing.TB) (keys []string) {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{
		Endpoints:   []string{"unix://" + filepath.Join(h.Dir, "exec", "etcd.sock")},
		DialTimeout: 30 * time.Second,
	})
	assert.NilError(t, err)
	defer func() { _ = c.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	res, err := c.Get(ctx, "/nereid/", clientv3.WithPrefix(), clientv3.WithKeysOnly())
	assert.NilError(t, err)
	for _, kv := range res.Kvs {
		keys = append(keys, string(kv.Key))
	}
	return keys
}
