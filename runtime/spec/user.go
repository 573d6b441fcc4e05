package spec

import (
	"fmt"
	"slices"

	"github.com/containerd/continuity/fs"
	"github.com/moby/sys/user"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// ResolveUser looks up "user", "user:group", "uid" or "uid:gid" and the additional groups in the passwd and group files
// of a root file system; links in it never lead out. The empty name is root. Errors have Docker's words, such as
// "unable to find user foo: no matching entries in passwd file".
func ResolveUser(rootfs, name string, groups []string) (specs.User, error) {
	passwd, err := fs.RootPath(rootfs, "/etc/passwd")
	if err != nil {
		return specs.User{}, err
	}
	group, err := fs.RootPath(rootfs, "/etc/group")
	if err != nil {
		return specs.User{}, err
	}
	found, err := user.GetExecUserPath(name, nil, passwd, group)
	if err != nil {
		return specs.User{}, err
	}
	extra := found.Sgids
	if slices.Contains(groups, "") { // which the package takes for no group, and then for one
		return specs.User{}, fmt.Errorf("unable to find group : %w", user.ErrNoGroupEntries)
	}
	if len(groups) > 0 {
		more, err := user.GetAdditionalGroupsPath(groups, group)
		if err != nil {
			return specs.User{}, err
		}
		extra = append(extra, more...)
	}
	u := specs.User{UID: uint32(found.Uid), GID: uint32(found.Gid), AdditionalGids: []uint32{uint32(found.Gid)}}
	for _, g := range extra {
		u.AdditionalGids = append(u.AdditionalGids, uint32(g))
	}
	return u, nil
}
