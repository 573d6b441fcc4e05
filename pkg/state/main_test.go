package state_test

import (
	"testing"

	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	wal.SegmentSizeBytes = 1 << 20 // etcd allots a segment at once; 64 MB for each test is a slow disk's whole time
	goleak.VerifyTestMain(m)
}
