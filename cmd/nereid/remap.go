package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/moby/sys/user"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// remapUser is whose ranges "default" means, as with dockerd.
const remapUser = "dockremap"

// remap reads the ranges of --userns-remap.
func (o *options) remap(ctx context.Context) (nereid.IDMap, error) {
	if o.usernsRemap == "" {
		return nereid.IDMap{}, nil
	}
	ids, err := loadRemap(ctx, o.usernsRemap)
	if err != nil {
		return nereid.IDMap{}, fmt.Errorf("--userns-remap %q: %w", o.usernsRemap, err)
	}
	return ids, nil
}

func loadRemap(ctx context.Context, spec string) (ids nereid.IDMap, err error) {
	name, group, hasGroup := strings.Cut(spec, ":")
	if spec == "default" {
		if name, err = remapUser, ensureRemapUser(ctx); err != nil {
			return ids, err
		}
	}
	if u, err := user.LookupUser(name); err == nil {
		name = u.Name
	} else if u, err := lookupUID(name); err == nil {
		name = u.Name
	}
	if hasGroup {
		if _, err := user.LookupGroup(group); err != nil {
			return ids, err
		}
	}
	m, err := user.LoadIdentityMapping(name)
	if err != nil {
		return ids, err
	}
	if len(m.UIDMaps) != 1 || len(m.GIDMaps) != 1 {
		return ids, fmt.Errorf("user %q has more than one range in /etc/subuid or /etc/subgid, which is not supported", name)
	}
	return nereid.IDMap{
		UID: uint32(m.UIDMaps[0].ParentID), UIDs: uint32(m.UIDMaps[0].Count),
		GID: uint32(m.GIDMaps[0].ParentID), GIDs: uint32(m.GIDMaps[0].Count),
	}, nil
}

func lookupUID(s string) (user.User, error) {
	var uid int
	if _, err := fmt.Sscan(s, &uid); err != nil {
		return user.User{}, err
	}
	return user.LookupUid(uid)
}

// ensureRemapUser makes the user of "default" with its ranges, where the host has none yet.
func ensureRemapUser(ctx context.Context) error {
	if _, err := user.LookupUser(remapUser); err != nil {
		out, err := exec.CommandContext(ctx, "useradd", "--system", "--user-group", "--no-create-home", "--shell", "/bin/false", remapUser).CombinedOutput()
		if err != nil {
			return fmt.Errorf("make user %s: %w: %s", remapUser, err, strings.TrimSpace(string(out)))
		}
	}
	return errors.Join(ensureRange("/etc/subuid"), ensureRange("/etc/subgid"))
}

const (
	firstSubordinate = 100000 // as useradd begins
	subordinates     = 65536
)

// ensureRange gives the user a range behind all others.
func ensureRange(path string) error {
	next := int64(firstSubordinate)
	var has bool
	_, err := user.ParseSubIDFileFilter(path, func(s user.SubID) bool {
		next = max(next, s.SubID+s.Count)
		has = has || s.Name == remapUser
		return false
	})
	if has || err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%s:%d:%d\n", remapUser, next, subordinates)
	return errors.Join(err, f.Close())
}
