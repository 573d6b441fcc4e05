package request

import (
	"net/http"

	"github.com/docker/docker/api/types/registry"
)

// Auth reads the registry credentials of the X-Registry-Auth header. Docker takes a header it cannot read for none, and
// clients rely on it; the answer is never nil.
func Auth(r *http.Request) *registry.AuthConfig {
	auth, err := registry.DecodeAuthConfig(r.Header.Get(registry.AuthHeader))
	if err != nil {
		return &registry.AuthConfig{}
	}
	return auth
}
