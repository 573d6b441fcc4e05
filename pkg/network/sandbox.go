package network

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/trace"
)

// sandbox is one container's network namespace and what this daemon holds open for it.
type sandbox struct {
	id   nereid.ContainerID
	path string
	opts SandboxOptions
	ns   *os.File

	leadsOut atomic.Bool // it has a way to the world

	mu       sync.Mutex // one change at a time
	gone     bool       // removed; a new one may be in its place
	links    map[nereid.EndpointID]leaver
	ports    map[Published]*hold
	resolver *resolver // nil: LoopbackOnly
}

// stop closes what the daemon holds for the sandbox and leaves what the kernel does.
func (sb *sandbox) stop() {
	sb.mu.Lock()
	defer sb.mu.Unlock()
	sb.stopLocked()
}

func (sb *sandbox) stopLocked() {
	sb.gone = true
	if sb.resolver != nil {
		sb.resolver.close()
	}
	for _, h := range sb.ports {
		h.close()
	}
	_ = sb.ns.Close()
}

// NewSandbox makes the container's network namespace with a running loopback and its resolver, and returns its path.
// One that this daemon made already is returned as it is; what another run left under this id is replaced.
func (f *Fabric) NewSandbox(ctx context.Context, id nereid.ContainerID, opts SandboxOptions) (_ string, retErr error) {
	if sb, err := f.sandbox(id); err == nil {
		defer sb.mu.Unlock()
		return sb.path, nil
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	_, span := trace.Start(ctx, "namespace")
	defer span.End()
	path := f.netnsPath(id)
	if err := removeNetns(path); err != nil {
		return "", err
	}
	sb := &sandbox{id: id, path: path, opts: opts, links: map[nereid.EndpointID]leaver{}, ports: map[Published]*hold{}}
	var sockets *resolverSockets
	ns, err := makeNetns(path, opts.IDMap, func() (err error) {
		if err := setUpLoopback(); err != nil || opts.LoopbackOnly {
			return err
		}
		sockets, err = openResolverSockets(false)
		return err
	})
	if err != nil {
		sockets.close()
		return "", err
	}
	sb.ns = ns
	if sockets != nil {
		sb.resolver = newResolver(f, sb)
		sb.resolver.serve(sockets)
	}
	return path, f.keep(sb)
}

// keep remembers a new sandbox, unless another call was faster.
func (f *Fabric) keep(sb *sandbox) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.sandboxes[sb.id]; ok {
		sb.stop()
		return fmt.Errorf("network sandbox of container %q: %w", sb.id, errdefs.ErrAlreadyExists)
	}
	f.sandboxes[sb.id] = sb
	return nil
}

// setUpLoopback brings lo up in the calling thread's namespace, and has links that come later begin without IPv6: it
// is switched on for those whose network has it. The loopback keeps ::1, as in Docker.
func setUpLoopback() error {
	nl, err := openNetlink(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer nl.Close()
	lo := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: "lo", Index: 1}} // it is the first of every namespace
	if err := nl.LinkSetUp(lo); err != nil {
		return fmt.Errorf("bring up lo: %w", err)
	}
	return sysctl("ipv6/conf/default/disable_ipv6", "1", true)
}

// Remove undoes all that was done for a container: rules, listeners, resolver, namespace, and with the namespace its
// links, which are gone a moment later. Not there is no error. It goes on after failures and returns them all.
func (f *Fabric) Remove(_ context.Context, id nereid.ContainerID) error {
	sb, err := f.sandbox(id)
	if err != nil {
		return removeNetns(f.netnsPath(id)) // what a crash may have left
	}
	defer sb.mu.Unlock()
	err = f.unpublish(sb, sb.published())
	for _, l := range sb.links {
		if l.inside != "" { // or its hardware address stays taken until the namespace is gone
			err = errors.Join(err, f.unplug(sb, l))
		}
	}
	sb.stopLocked()
	err = errors.Join(err, removeNetns(sb.path))
	f.leaving.add(sb.links)
	f.forget(sb)
	return err
}

func (f *Fabric) forget(sb *sandbox) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.sandboxes[sb.id] == sb {
		delete(f.sandboxes, sb.id)
	}
}
