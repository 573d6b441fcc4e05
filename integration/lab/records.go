package lab

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"gotest.tools/v3/assert"
)

// Records lists the keys of the state, events left out, which are kept for hours by design.
func (h *Host) Records(t testing.TB) string {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{
		Endpoints:   []string{"unix://" + filepath.Join(h.Dir, "exec", "etcd.sock")},
		DialTimeout: 5 * time.Second,
	})
	assert.NilError(t, err)
	defer func() { _ = c.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	res, err := c.Get(ctx, "/nereid/", clientv3.WithPrefix(), clientv3.WithKeysOnly())
	assert.NilError(t, err)
	var keys []string
	for _, kv := range res.Kvs {
		if !strings.HasPrefix(string(kv.Key), "/nereid/v1/events/") {
			keys = append(keys, string(kv.Key))
		}
	}
	return strings.Join(keys, "\n")
}
