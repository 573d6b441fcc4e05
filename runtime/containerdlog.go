package runtime

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/containerd/log"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// logBridge gives containerd's log, of which a process has one, to ours.
type logBridge struct{ to *zap.Logger }

func bridgeLog(to *zap.Logger) error {
	log.L.Logger.SetFormatter(logBridge{to.Named("containerd")})
	return log.SetLevel("warn")
}

// expected is what containerd says of a shim that was retired, as long as the error is that it is not there any more.
var expected = []string{"failed to delete task", "failed to delete dead shim", "failed to clean up after shim disconnected"}

func retired(e *log.Entry) bool {
	err, ok := e.Data["error"].(error)
	return ok && slices.Contains(expected, e.Message) && (errors.Is(err, os.ErrNotExist) || strings.Contains(err.Error(), "not created"))
}

// harmless is what containerd warns of in the course of things: every shim that ends closes its log, and few file
// systems have fs-verity.
var harmless = []string{"copy shim log", "copy shim log after reload", "failed check for fsverity support"}

// Format hands the entry on; there are no bytes left to write.
func (b logBridge) Format(e *log.Entry) ([]byte, error) {
	level := zapcore.WarnLevel
	switch {
	case slices.Contains(harmless, e.Message), retired(e):
		level = zapcore.DebugLevel
	case e.Level <= log.ErrorLevel:
		level = zapcore.ErrorLevel
	}
	fields := make([]zap.Field, 0, len(e.Data))
	for name, value := range e.Data {
		fields = append(fields, zap.String(name, fmt.Sprint(value)))
	}
	b.to.Log(level, e.Message, fields...)
	return nil, nil
}
