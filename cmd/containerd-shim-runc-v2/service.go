package main

import (
	"github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2/task"
	"github.com/containerd/containerd/v2/pkg/shim"
	"github.com/containerd/containerd/v2/pkg/shutdown"
	"github.com/containerd/containerd/v2/plugins"
	runc "github.com/containerd/go-runc"
	"github.com/containerd/plugin"
	"github.com/containerd/plugin/registry"

	"github.com/nereid-paas/nereid/runtime/shortcut"
	"github.com/nereid-paas/nereid/runtime/stdio/keep"
)

// register makes runc's task service, keeping FIFOs and with shortcuts, the one that this process serves. It takes the
// place of importing containerd's plugin of that service.
func register() {
	registry.Register(&plugin.Registration{
		Type:     plugins.TTRPCPlugin,
		ID:       "task",
		Requires: []plugin.Type{plugins.EventPlugin, plugins.InternalPlugin},
		InitFn:   newService,
	})
}

func newService(ic *plugin.InitContext) (any, error) {
	publisher, err := ic.GetByID(plugins.EventPlugin, "publisher")
	if err != nil {
		return nil, err
	}
	stopping, err := ic.GetByID(plugins.InternalPlugin, "shutdown")
	if err != nil {
		return nil, err
	}
	s, err := task.NewTaskService(ic.Context, publisher.(shim.Publisher), stopping.(shutdown.Service))
	if err != nil {
		return nil, err
	}
	runc.Monitor = shortcut.Monitor{ProcessMonitor: runc.Monitor} // which the service has just set
	saveLater()
	return keep.New(s), nil
}
