// Package quota limits how much a directory may hold, on file systems with project quotas: XFS mounted with prjquota, and
// ext4 that was made with the feature project.
package quota

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The kernel's words for project quotas: quotactl(2), linux/dqblk_xfs.h and linux/fs.h. File systems other than XFS answer
// to them too.
const (
	projectQuota  = 2                               // PRJQUOTA
	getQuota      = 'X'<<8 | 3                      // Q_XGETQUOTA
	setLimit      = 'X'<<8 | 4                      // Q_XSETQLIM
	getState      = 'X'<<8 | 5                      // Q_XGETQSTAT
	enforced      = 1 << 5                          // FS_QUOTA_PDQ_ENFD
	blockLimits   = 1<<2 | 1<<3                     // FS_DQ_BSOFT, FS_DQ_BHARD
	ofProject     = 1 << 1                          // FS_PROJ_QUOTA
	blockSize     = 512                             // of the limits
	getAttributes = 0x80<<24 | 28<<16 | 'X'<<8 | 31 // FS_IOC_FSGETXATTR
	setAttributes = 0x40<<24 | 28<<16 | 'X'<<8 | 32 // FS_IOC_FSSETXATTR
	inherit       = 1 << 9                          // FS_XFLAG_PROJINHERIT
)

// diskQuota is struct fs_disk_quota.
type diskQuota struct {
	version                                        int8
	flags                                          int8
	mask                                           uint16
	id                                             uint32
	hard, soft, inodeHard, inodeSoft, used, inodes uint64
	_                                              [56]byte
}

// attributes is struct fsxattr.
type attributes struct {
	flags, extent, extents, project, cow uint32
	_                                    [8]byte
}

// Supported tells whether directories on the file system of dir can be limited.
func Supported(dir string) bool {
	f, err := os.Open(dir)
	if err != nil {
		return false
	}
	defer f.Close()
	var state struct {
		version int8
		_       int8
		flags   uint16
		_       [124]byte
	}
	err = quotactl(f, getState, 0, unsafe.Pointer(&state))
	return err == nil && state.flags&enforced != 0
}

// Limit makes directories, which are empty, a project of their own that may hold size bytes together, and gives those that
// are one already another limit. They must lie on one file system. It is not to be called at once for several.
func Limit(size int64, dirs ...string) error {
	project, err := projectOf(dirs[0])
	if err != nil {
		return err
	}
	if project == 0 {
		if project, err = free(dirs[0]); err != nil {
			return err
		}
	}
	if err := limit(dirs[0], project, size); err != nil {
		return err
	}
	for _, dir := range dirs {
		if err := join(dir, project); err != nil {
			return err
		}
	}
	return nil
}

// Forget drops the limit of a directory's project, before the directory goes. No project is no error.
func Forget(dir string) error {
	project, err := projectOf(dir)
	if err != nil || project == 0 {
		return err
	}
	return limit(dir, project, 0)
}

// free finds a project that nobody uses. It begins with the inode number of a directory, which is another one for each
// directory of a file system: daemons that share one do not meet.
func free(dir string) (uint32, error) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return 0, &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	for project := uint32(st.Ino); ; project++ {
		taken, err := inUse(dir, project)
		if err != nil {
			return 0, err
		}
		if project != 0 && !taken {
			return project, nil
		}
	}
}

func inUse(dir string, project uint32) (bool, error) {
	f, err := os.Open(dir)
	if err != nil {
		return false, err
	}
	defer f.Close()
	var q diskQuota
	err = quotactl(f, getQuota, project, unsafe.Pointer(&q))
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) {
		return false, nil
	}
	return q.hard != 0 || q.used != 0 || q.inodes != 0, err
}

func limit(dir string, project uint32, size int64) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	blocks := uint64(size+blockSize-1) / blockSize
	q := diskQuota{version: 1, flags: ofProject, mask: blockLimits, id: project, hard: blocks, soft: blocks}
	if err := quotactl(f, setLimit, project, unsafe.Pointer(&q)); err != nil {
		return fmt.Errorf("limit %s to %d bytes: %w", dir, size, err)
	}
	return nil
}

// join makes a directory, and what will be made in it, part of a project.
func join(dir string, project uint32) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	var a attributes
	if err := ioctl(f, getAttributes, &a); err != nil {
		return err
	}
	a.project = project
	a.flags |= inherit
	return ioctl(f, setAttributes, &a)
}

// projectOf is a directory's own project; 0 when it has none, or that of the directory it lies in.
func projectOf(dir string) (uint32, error) {
	project, err := marked(dir)
	if err != nil || project == 0 {
		return 0, err
	}
	if above, err := marked(filepath.Dir(dir)); err != nil || above == project {
		return 0, err
	}
	return project, nil
}

// marked is the project of what is made in a directory; 0 when there is none.
func marked(dir string) (uint32, error) {
	f, err := os.Open(dir)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var a attributes
	if err := ioctl(f, getAttributes, &a); err != nil {
		return 0, err
	}
	if a.flags&inherit == 0 {
		return 0, nil
	}
	return a.project, nil
}

func ioctl(f *os.File, request uintptr, a *attributes) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(unsafe.Pointer(a))); errno != 0 {
		return &os.PathError{Op: "project of", Path: f.Name(), Err: errno}
	}
	return nil
}

// quotactl is quotactl_fd(2), which kernels have since 5.14.
func quotactl(f *os.File, command int, id uint32, addr unsafe.Pointer) error {
	_, _, errno := unix.Syscall6(unix.SYS_QUOTACTL_FD, f.Fd(), uintptr(command<<8|projectQuota), uintptr(id), uintptr(addr), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
