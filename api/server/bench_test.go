package server

import (
	"testing"

	"github.com/docker/docker/api/types/container"
)

// BenchmarkRequest is what a request costs beside its backend: routes, middleware, answer.
func BenchmarkRequest(b *testing.B) {
	f := newFakes()
	f.containers.list = func(container.ListOptions) ([]*container.Summary, error) { return nil, nil }
	s := New(f.config())
	for name, path := range map[string]string{"first": "/v1.51/containers/json", "last": "/v1.51/plugins/x/json"} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				s.ServeHTTP(newRecorder(), newRequest("GET", path))
			}
		})
	}
}
