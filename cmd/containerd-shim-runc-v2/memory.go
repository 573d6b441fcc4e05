package main

import (
	"runtime/debug"
	"time"
)

const (
	// busyTime is how long a shim that starts has better things to do than to save memory. Most containers that end at
	// all end sooner, and collecting what goes with the process anyway was a tenth of a shim's work.
	busyTime = 5 * time.Second
	// busyLimit is what it may take meanwhile; from there on it collects all the same.
	busyLimit = 24 << 20
	// savingPercent is containerd's choice for its shims.
	savingPercent = 40
)

// saveLater puts saving memory off: containerd's shim package has it begin with the process. It is called once.
func saveLater() {
	debug.SetGCPercent(-1)
	without := debug.SetMemoryLimit(busyLimit)
	time.AfterFunc(busyTime, func() {
		debug.SetMemoryLimit(without)
		debug.SetGCPercent(savingPercent)
		debug.FreeOSMemory()
	})
}
