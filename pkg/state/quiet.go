package state

import (
	"slices"
	"strings"
	"sync/atomic"

	"go.uber.org/zap/zapcore"
)

// quiet is a logger's core that passes warnings and worse, and leaves out what etcd warns of without need.
type quiet struct {
	zapcore.Core
	closing *atomic.Bool
}

// How messages end that etcd has at the boot of a lone member behind a unix socket: on listening with one port, on tokens
// of an authentication that is off, on the storage version before the first commit to disk, and, on a busy machine, on an
// election that comes before its first entry is applied, and comes again.
var needless = []string{
	"Running http and grpc server on single port. This is not recommended for production.",
	"simple token is not cryptographically signed",
	"Failed to detect schema version",
	"failed to update storage version",
	" since there are still pending configuration changes to apply",
}

func (q quiet) With(fields []zapcore.Field) zapcore.Core {
	return quiet{q.Core.With(fields), q.closing}
}

func (q quiet) Enabled(l zapcore.Level) bool { return l >= zapcore.WarnLevel && q.Core.Enabled(l) }

func (q quiet) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	// Listeners closed under their servers are logged as errors; they are how etcd stops.
	if !q.Enabled(e.Level) || q.closing.Load() || slices.ContainsFunc(needless, func(end string) bool { return strings.HasSuffix(e.Message, end) }) {
		return ce
	}
	return q.Core.Check(e, ce)
}
