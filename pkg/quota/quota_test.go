package quota

import (
	"os"
	"testing"
	"unsafe"

	"gotest.tools/v3/assert"
)

// The kernel reads and writes these as C lays them out.
func TestLayout(t *testing.T) {
	assert.Equal(t, unsafe.Sizeof(diskQuota{}), uintptr(112))
	assert.Equal(t, unsafe.Offsetof(diskQuota{}.used), uintptr(40))
	assert.Equal(t, unsafe.Sizeof(attributes{}), uintptr(28))
	assert.Equal(t, unsafe.Offsetof(attributes{}.project), uintptr(12))
}

func TestNoQuotas(t *testing.T) {
	assert.Equal(t, Supported("/proc"), false)
	assert.Equal(t, Supported("/no/such"), false)
	assert.Assert(t, os.IsNotExist(Forget("/no/such")))
}
