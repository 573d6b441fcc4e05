package volume

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	sysmount "github.com/moby/sys/mount"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// mount mounts what the options say at a volume's place, unless something is mounted there.
func (s *Store) mount(ctx context.Context, at string, o Options) error {
	mounted, err := mountinfo.Mounted(at)
	if err != nil || mounted {
		return err
	}
	device, options, err := mountSource(ctx, o)
	if err != nil {
		return err
	}
	if o.has("loop") {
		loop, err := attachLoop(device, o.has("ro"))
		if err != nil {
			return fmt.Errorf("failed to mount local volume: %w", err)
		}
		defer loop.Close()
		device = loop.Name()
	}
	mount := func() error { return sysmount.Mount(device, at, o.Type, options) }
	if err := s.patient(ctx, at, func() error { return mountTwin(ctx, o, mount) }); err != nil {
		return fmt.Errorf("failed to mount local volume: %w", hidePassword(o, mountHint(o, err)))
	}
	return nil
}

// A file system on a loop device that was just unmounted may live on for a moment, in the mounts of a container that is
// starting or ending. XFS mounts no second one with its id meanwhile (xfs(5), nouuid).
const (
	twinWait = 2 * time.Second
	twinStep = 20 * time.Millisecond
)

// mountTwin tries a mount again while the last one of the same file system may be in its way.
func mountTwin(ctx context.Context, o Options, mount func() error) error {
	for end := time.Now().Add(twinWait); ; time.Sleep(twinStep) {
		err := mount()
		if !errors.Is(err, unix.EINVAL) || o.Type != "xfs" || !o.has("loop") || time.Now().After(end) || ctx.Err() != nil {
			return err
		}
	}
}

// mountSource says which device is mounted with which options: names of servers become the addresses that the kernel wants.
func mountSource(ctx context.Context, o Options) (device, options string, err error) {
	if o.Device == "" {
		return "", "", errors.New("missing device in volume options")
	}
	device, options = o.Device, without(o.Mount, "loop")
	if device == "none" && !o.binds() {
		device = o.Type // as "none" the mount library would take it for a remount, and mount nothing
	}
	switch addr := o.value("addr"); {
	case o.Type != "nfs" && o.Type != "nfs4" && o.Type != "cifs":
	case addr != "":
		ip, err := resolve(ctx, addr)
		if err != nil {
			return "", "", err
		}
		options = strings.Replace(options, "addr="+addr, "addr="+ip, 1)
	case o.Type == "cifs":
		device, err = resolveShare(ctx, device)
	}
	return device, options, err
}

// resolveShare puts the server's address into the URL of a Windows share.
func resolveShare(ctx context.Context, device string) (string, error) {
	u, err := url.Parse(device)
	if err != nil || u.Host == "" {
		return device, err
	}
	if u.Host, err = resolve(ctx, u.Host); err != nil {
		return "", err
	}
	return url.QueryUnescape(u.String())
}

// resolve finds the address of a server, of the fourth version where it has one.
func resolve(ctx context.Context, host string) (string, error) {
	if net.ParseIP(host) != nil {
		return host, nil
	}
	addrs, err := net.DefaultResolver.LookupIPAddr(ctx, host)
	if err != nil {
		return "", fmt.Errorf("error resolving passed in network volume address: %w", err)
	}
	for _, a := range addrs {
		if a.IP.To4() != nil {
			return a.IP.String(), nil
		}
	}
	return addrs[0].String(), nil
}

// patient makes a system call that may take the kernel minutes, such as a mount from a server that does not answer, and
// gives up on it when the context ends. What it mounts later is unmounted: nobody waits for it. Until then the place
// is taken.
func (s *Store) patient(ctx context.Context, at string, call func() error) error {
	if _, taken := s.underWay.LoadOrStore(at, true); taken {
		return fmt.Errorf("mount %s: an earlier mount of the volume is still under way", at)
	}
	done := make(chan error, 1)
	abandoned := make(chan bool, 1)
	go func() {
		err := call()
		done <- err
		if !<-abandoned {
			return
		}
		if err == nil {
			_ = unix.Unmount(at, unix.MNT_DETACH)
		}
		s.underWay.Delete(at)
	}()
	select {
	case err := <-done:
		abandoned <- false
		s.underWay.Delete(at)
		return err
	case <-ctx.Done():
		abandoned <- true
		return fmt.Errorf("mount %s: the file system did not answer: %w", at, context.Cause(ctx))
	}
}

// unmount takes everything off a place.
func unmount(at string) error {
	for {
		mounted, err := mountinfo.Mounted(at)
		if errors.Is(err, os.ErrNotExist) || err == nil && !mounted {
			return nil
		}
		if err != nil && !errors.Is(err, unix.ESTALE) { // a server that forgot us: the mount goes all the same
			return err
		}
		if err := unix.Unmount(at, unix.UMOUNT_NOFOLLOW); err != nil {
			if errors.Is(err, unix.EINVAL) {
				return nil // another one took it off
			}
			return &os.PathError{Op: "unmount", Path: at, Err: err}
		}
	}
}

// Unmount takes the device of a volume off its place. The next Path mounts it again. Not mounted is no error.
func (s *Store) Unmount(ctx context.Context, v *state.Volume) error {
	data, err := s.data(v)
	if err != nil {
		return err
	}
	return unmount(data)
}

// Mounted lists the volumes whose devices are mounted, by account and name alone.
func (s *Store) Mounted(context.Context) ([]*state.Volume, error) {
	infos, err := mountinfo.GetMounts(mountinfo.PrefixFilter(s.root))
	if err != nil {
		return nil, err
	}
	var found []*state.Volume
	seen := map[string]bool{}
	for _, m := range infos {
		rel, err := filepath.Rel(s.root, m.Mountpoint)
		parts := strings.Split(rel, "/")
		if err != nil || len(parts) != 3 || parts[2] != dataName || seen[rel] {
			continue // a volume's own mounts, or one made twice
		}
		seen[rel] = true
		found = append(found, &state.Volume{Account: nereid.Account(parts[0]), Name: parts[1]})
	}
	return found, nil
}

// mountHint says what the kernel's bare word for a missing file system means.
func mountHint(o Options, err error) error {
	if errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("%w (the kernel of this host has no file system %q)", err, o.Type)
	}
	return err
}

// hidePassword keeps the secret among the mount options out of an error.
func hidePassword(o Options, err error) error {
	if secret := o.value("password"); secret != "" {
		return errors.New(strings.ReplaceAll(err.Error(), "password="+secret, "password=********"))
	}
	return err
}

// without takes a word out of the mount options.
func without(options, word string) string {
	return strings.Join(slices.DeleteFunc(strings.Split(options, ","), func(o string) bool { return o == word }), ",")
}
