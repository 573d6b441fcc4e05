package volume

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// maxLoopTries bounds how often a free loop device is looked for: between the look and the use another may take it.
const maxLoopTries = 16

// attachLoop gives a file as a block device. The kernel takes the device back once it is neither open nor mounted, so
// that a daemon that ends at any point leaves none behind.
func attachLoop(file string, readOnly bool) (*os.File, error) {
	mode, flags := os.O_RDWR, uint32(unix.LO_FLAGS_AUTOCLEAR)
	if readOnly {
		mode, flags = os.O_RDONLY, flags|unix.LO_FLAGS_READ_ONLY
	}
	backing, err := os.OpenFile(file, mode, 0)
	if err != nil {
		return nil, err
	}
	defer backing.Close()
	if info, err := backing.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, fmt.Errorf("loop device of %s: not a regular file", file))
	}
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("this host has no loop devices: %w", err)
	}
	defer control.Close()
	for try := 1; ; try++ {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("no free loop device: %w", err)
		}
		dev, err := attachTo(fmt.Sprintf("/dev/loop%d", n), mode, &unix.LoopConfig{Fd: uint32(backing.Fd()), Info: unix.LoopInfo64{Flags: flags}})
		if err == nil || try == maxLoopTries || !errors.Is(err, unix.EBUSY) {
			return dev, err
		}
	}
}

func attachTo(device string, mode int, cfg *unix.LoopConfig) (*os.File, error) {
	dev, err := os.OpenFile(device, mode, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.IoctlLoopConfigure(int(dev.Fd()), cfg); err != nil {
		dev.Close()
		return nil, fmt.Errorf("attach %s: %w", device, err)
	}
	return dev, nil
}
