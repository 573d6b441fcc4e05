package volume

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Sizes of volumes are project quotas: the files of one volume carry a number of their own, and the file system counts
// and bounds the blocks under each number. XFS does it when it is mounted with prjquota, and ext4 where it was made
// with the feature project.

// What linux/dqblk_xfs.h and linux/fs.h say; the system package does not have it.
const (
	cmdGetQuota      = 'X'<<8 + 3
	cmdSetLimit      = 'X'<<8 + 4
	cmdGetState      = 'X'<<8 + 5
	projectQuota     = 2      // the kind of quota
	projectEnforced  = 1 << 5 // in the state's flags
	dqVersion        = 1
	dqProject        = 1 << 1 // in dqBlock.flags
	dqSoft           = 1 << 2 // in dqBlock.fields
	dqHard           = 1 << 3
	basicBlock       = 512
	iocGetXattr      = 0x801c581f
	iocSetXattr      = 0x401c5820
	inheritProject   = 0x200 // in fileXattr.flags
	firstProject     = 1 << 16
	maxProjectTries  = 64
	quotaUnsupported = "quota size requested but no quota support"
)

// dqBlock is struct fs_disk_quota.
type dqBlock struct {
	version                  int8
	flags                    int8
	fields                   uint16
	id                       uint32
	hard, soft               uint64
	inodesHard, inodesSoft   uint64
	blocks, inodes           uint64
	inodeTimer, blockTimer   int32
	inodeWarns, blockWarns   uint16
	timersHigh               [4]int8
	rtHard, rtSoft, rtBlocks uint64
	rtTimer                  int32
	rtWarns                  uint16
	_                        int16
	_                        [8]byte
}

// fileXattr is struct fsxattr.
type fileXattr struct {
	flags, extent, extents, project, cowExtent uint32
	_                                          [8]byte
}

// quotas tells whether the file system of a directory bounds projects.
func quotas(dir string) bool {
	f, err := os.Open(dir)
	if err != nil {
		return false
	}
	defer f.Close()
	var state [10]uint64 // struct fs_quota_stat; its flags are the second half-word
	if err := quotactl(f, cmdGetState, 0, unsafe.Pointer(&state)); err != nil {
		return false
	}
	return (*[2]uint16)(unsafe.Pointer(&state))[1]&projectEnforced != 0
}

// setQuota bounds what may lie in a directory; what is made in it from now on counts.
func setQuota(dir string, size uint64) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	project, err := projectOf(f)
	if err != nil {
		return fmt.Errorf("project of %s: %w", dir, err)
	}
	blocks := (size + basicBlock - 1) / basicBlock
	limit := dqBlock{version: dqVersion, flags: dqProject, fields: dqHard | dqSoft, id: project, hard: blocks, soft: blocks}
	if err := quotactl(f, cmdSetLimit, project, unsafe.Pointer(&limit)); err != nil {
		return fmt.Errorf("limit of %s: %w", dir, err)
	}
	return nil
}

// dropQuota forgets the limit of a directory that is about to go.
func dropQuota(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return ignoreAbsent(err)
	}
	defer f.Close()
	var attr fileXattr
	if err := ioctl(f, iocGetXattr, unsafe.Pointer(&attr)); err != nil || attr.project < firstProject {
		return err
	}
	limit := dqBlock{version: dqVersion, flags: dqProject, fields: dqHard | dqSoft, id: attr.project}
	return quotactl(f, cmdSetLimit, attr.project, unsafe.Pointer(&limit))
}

// projectOf returns the project number of a directory, and gives it one that nobody uses when it has none.
func projectOf(dir *os.File) (uint32, error) {
	var attr fileXattr
	if err := ioctl(dir, iocGetXattr, unsafe.Pointer(&attr)); err != nil {
		return 0, err
	}
	if attr.project >= firstProject && attr.flags&inheritProject != 0 {
		return attr.project, nil
	}
	project, err := freeProject(dir)
	if err != nil {
		return 0, err
	}
	attr.project, attr.flags = project, attr.flags|inheritProject
	return project, ioctl(dir, iocSetXattr, unsafe.Pointer(&attr))
}

// freeProject draws a number under which the file system knows nothing, out of two thousand million: other programs,
// and other daemons on the same file system, draw theirs too.
func freeProject(f *os.File) (uint32, error) {
	for range maxProjectTries {
		var b [4]byte
		_, _ = rand.Read(b[:]) // never fails
		project := firstProject + binary.NativeEndian.Uint32(b[:])>>1
		var use dqBlock
		err := quotactl(f, cmdGetQuota, project, unsafe.Pointer(&use))
		switch {
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ESRCH):
			return project, nil
		case err != nil:
			return 0, err
		case use.hard == 0 && use.soft == 0 && use.blocks == 0 && use.inodes == 0:
			return project, nil
		}
	}
	return 0, errors.New("no free project number found")
}

func quotactl(f *os.File, cmd uintptr, id uint32, arg unsafe.Pointer) error {
	_, _, errno := unix.Syscall6(unix.SYS_QUOTACTL_FD, f.Fd(), cmd<<8|projectQuota, uintptr(id), uintptr(arg), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

func ioctl(f *os.File, req uintptr, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), req, uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}
