package network

import (
	"fmt"
	"os"

	"github.com/containerd/containerd/v2/pkg/sys"
	"golang.org/x/sys/unix"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// mountOwned makes a network namespace in a new user namespace, which owns it, and mounts it on path. The user namespace
// lives as long.
func mountOwned(path string, ids nereid.IDMap) error {
	uids, gids := ids.Forth()
	return sys.UnshareAfterEnterUserns(uids, gids, unix.CLONE_NEWNET, func(pid int) error {
		if err := unix.Mount(fmt.Sprintf("/proc/%d/ns/net", pid), path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount: %w", err)
		}
		return nil
	})
}

// enterOwned runs setup in a namespace that is mounted on path, on a thread of its own.
func enterOwned(path string, setup func() error) error {
	ns, err := os.Open(path)
	if err != nil {
		return err
	}
	defer ns.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter: %w", err)
	}
	return setup()
}
