package engine

import (
	"path/filepath"

	"github.com/nereid-paas/nereid/runtime"
)

// dir is the container's directory on its host: its log, and the mark that something of it is there. It is made before
// anything else of the container and removed last, so that what a crash leaves is found by it.
func (c *Containers) dir(key runtime.Key) string {
	return filepath.Join(c.containersRoot(), string(key.Account), string(key.ID))
}

func (c *Containers) containersRoot() string { return filepath.Join(c.DataRoot, "containers") }

// logPath is the json-file log, named as Docker names it.
func (c *Containers) logPath(key runtime.Key) string {
	return filepath.Join(c.dir(key), string(key.ID)+"-json.log")
}
