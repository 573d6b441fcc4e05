package network

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// Fabric is one host's part of the fabric. Its methods may be called at once; they are idempotent. What it makes
// outlives it: a Fabric that starts again is told by Restore what should be there.
type Fabric struct {
	cfg   Config
	names naming
	log   *zap.Logger
	nl    *netlink.Handle // of the host's namespace; it serialises its users
	// ipv6 are the host's settings of its links, nil where there is no IPv6. The way there from the root of /proc is longer
	// the more network namespaces there are: the kernel keeps the folders of all of them in one list.
	ipv6  *os.Root
	fw    *firewall
	cache *answerCache
	// leaving are the links of removed containers.
	leaving *leaving
	mesh    *mesh

	hostLink hostLink

	// forgetting is held from the look at the kernel's memory of conversations to the end of what is deleted of it.
	forgetting sync.Mutex

	bridgesMu sync.Mutex
	bridges   map[uint32]*bridge // by VNI

	mu        sync.Mutex
	sandboxes map[nereid.ContainerID]*sandbox
}

// netlinkTimeout bounds one question to the kernel. Its answers wait for the lock all of networking shares, which the
// removal of many links can hold for seconds.
const netlinkTimeout = 30 * time.Second

// New opens the conversation with the kernel and changes nothing.
func New(cfg Config) (*Fabric, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	if cfg.ResolvConf == "" {
		cfg.ResolvConf = "/etc/resolv.conf"
	}
	nl, err := openNetlink(unix.NETLINK_ROUTE, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, err
	}
	ipv6, err := os.OpenRoot("/proc/sys/net/ipv6/conf")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		nl.Close()
		return nil, err
	}
	names := newNaming(cfg.Host)
	f := &Fabric{
		cfg: cfg, names: names, log: cfg.Log, nl: nl, ipv6: ipv6,
		fw: newFirewall(names), cache: newAnswerCache(),
		bridges: map[uint32]*bridge{}, sandboxes: map[nereid.ContainerID]*sandbox{},
	}
	f.leaving = newLeaving(f)
	f.mesh = &mesh{log: f.log, holds: map[socket]*hold{}}
	return f, nil
}

// openNetlink opens sockets in the calling thread's namespace.
func openNetlink(families ...int) (*netlink.Handle, error) {
	nl, err := netlink.NewHandle(families...)
	if err != nil {
		return nil, fmt.Errorf("netlink: %w", err)
	}
	if err := nl.SetSocketTimeout(netlinkTimeout); err != nil {
		nl.Close()
		return nil, fmt.Errorf("netlink: %w", err)
	}
	return nl, nil
}

// Run keeps the rules in place when someone flushes the host's, until the context ends. Then it closes resolvers and
// listeners; containers, links and rules stay.
func (f *Fabric) Run(ctx context.Context) error {
	defer f.close()
	f.guardRules(ctx)
	return nil
}

func (f *Fabric) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, sb := range f.sandboxes {
		sb.stop()
	}
	f.sandboxes = map[nereid.ContainerID]*sandbox{}
	f.mesh.close()
	f.leaving.close()
	f.fw.close()
	f.nl.Close()
	if f.ipv6 != nil {
		_ = f.ipv6.Close()
	}
}

// netnsPath is where a container's namespace is mounted.
func (f *Fabric) netnsPath(id nereid.ContainerID) string {
	return filepath.Join(f.cfg.ExecRoot, "netns", string(id))
}

// sandbox returns a container's sandbox, locked.
func (f *Fabric) sandbox(id nereid.ContainerID) (*sandbox, error) {
	f.mu.Lock()
	sb, ok := f.sandboxes[id]
	f.mu.Unlock()
	if ok {
		sb.mu.Lock()
		if !sb.gone {
			return sb, nil
		}
		sb.mu.Unlock()
	}
	return nil, fmt.Errorf("network sandbox of container %q: %w", id, errdefs.ErrNotFound)
}
