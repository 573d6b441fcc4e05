package runtime_test

import (
	"github.com/nereid-paas/nereid/pkg/engine"
	"github.com/nereid-paas/nereid/runtime"
)

var _ engine.Runtime = (*runtime.Runtime)(nil)
