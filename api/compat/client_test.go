package compat

import (
	"testing"

	"gotest.tools/v3/assert"
)

func TestAsUnderstood(t *testing.T) {
	for _, tc := range []struct {
		asked, want Version
		agent       string
	}{
		{51, 44, "docker-compose/1.29.2 docker-py/5.0.3 Linux/6.1.0"},
		{38, 38, "docker-compose/1.29.2 docker-py/5.0.3 Linux/6.1.0"},
		{51, 51, "compose/v2.40.3"},
		{51, 51, "docker-sdk-python/5.0.3"},
		{51, 51, ""},
	} {
		assert.Equal(t, tc.asked.AsUnderstood(tc.agent), tc.want, tc.agent)
	}
}
