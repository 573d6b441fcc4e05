package state

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// dialTimeout bounds one try to connect; keepAlive finds a member whose machine died without a word.
const (
	dialTimeout = 5 * time.Second
	keepAlive   = 5 * time.Second
)

// dial makes a client of an existing cluster. It connects when first used.
func dial(cfg Config) (*clientv3.Client, error) {
	c, err := clientv3.New(clientv3.Config{
		Endpoints:            cfg.Endpoints,
		TLS:                  cfg.TLS,
		DialTimeout:          dialTimeout,
		DialKeepAliveTime:    keepAlive,
		DialKeepAliveTimeout: keepAlive,
		Logger:               cfg.Log.Named("etcd-client"),
	})
	if err != nil {
		return nil, fmt.Errorf("connect to the state at %q: %w: %w", cfg.Endpoints, err, errdefs.ErrUnavailable)
	}
	return c, nil
}

func closeClient(c *clientv3.Client) error {
	if err := c.Close(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("close the client of the state: %w", err)
	}
	return nil
}
