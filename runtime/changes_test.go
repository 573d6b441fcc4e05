package runtime

import (
	"testing"

	"github.com/docker/docker/api/types/container"
	"gotest.tools/v3/assert"
)

func TestPlacesToMountOnAreNoChange(t *testing.T) {
	of := func(kind container.ChangeType) func(string) container.FilesystemChange {
		return func(path string) container.FilesystemChange {
			return container.FilesystemChange{Kind: kind, Path: path}
		}
	}
	add, change, remove := of(container.ChangeAdd), of(container.ChangeModify), of(container.ChangeDelete)
	type list = []container.FilesystemChange
	for _, tc := range []struct {
		name      string
		all, want list
	}{
		{"nothing", nil, nil},
		{"only places", list{add("/dev"), change("/etc"), add("/etc/hosts"), add("/proc"), add("/sys")}, list{}},
		{"no /etc in the image", list{add("/etc"), add("/etc/hosts")}, list{}},
		{"more in /etc", list{change("/etc"), add("/etc/hosts"), add("/etc/mine")}, list{change("/etc"), add("/etc/mine")}},
		{"more in a new /etc", list{add("/etc"), add("/etc/hosts"), add("/etc/mine")}, list{change("/etc"), add("/etc/mine")}},
		{"a user's /etc", list{add("/etc")}, list{add("/etc")}},
		{"a user's change", list{change("/etc"), change("/etc/hosts"), remove("/proc")}, list{change("/etc"), change("/etc/hosts"), remove("/proc")}},
		{"volumes", list{add("/data"), add("/dev")}, list{add("/data")}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			assert.DeepEqual(t, withoutPlaces(tc.all), tc.want)
		})
	}
}
