// Command containerd-shim-runc-v2 is containerd's shim for runc, built at the version that go.mod pins. It keeps what
// containers wrote while no daemon was there to read it, and does without running runc where it can.
package main

import (
	"context"

	"github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2/manager"
	"github.com/containerd/containerd/v2/pkg/shim"
)

func main() {
	register()
	shim.RunShim(context.Background(), manager.NewShimManager("io.containerd.runc.v2"))
}
