package engine

import (
	"net/netip"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/go-connections/nat"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/pkg/state"
)

func TestLinkVariables(t *testing.T) {
	db := &state.Container{Config: &container.Config{
		Env:          []string{"PATH=/bin", "HOME=/", "USER=me", "EMPTY="},
		ExposedPorts: nat.PortSet{"53/udp": {}, "81/tcp": {}, "80/tcp": {}, "5432/tcp": {}},
	}}
	assert.DeepEqual(t, linkVariables("/web/my-db", netip.MustParseAddr("10.0.0.2"), db), []string{
		"MY_DB_PORT=tcp://10.0.0.2:80",
		"MY_DB_PORT_80_TCP=tcp://10.0.0.2:80", "MY_DB_PORT_80_TCP_ADDR=10.0.0.2", "MY_DB_PORT_80_TCP_PORT=80", "MY_DB_PORT_80_TCP_PROTO=tcp",
		"MY_DB_PORT_81_TCP=tcp://10.0.0.2:81", "MY_DB_PORT_81_TCP_ADDR=10.0.0.2", "MY_DB_PORT_81_TCP_PORT=81", "MY_DB_PORT_81_TCP_PROTO=tcp",
		"MY_DB_PORT_5432_TCP=tcp://10.0.0.2:5432", "MY_DB_PORT_5432_TCP_ADDR=10.0.0.2", "MY_DB_PORT_5432_TCP_PORT=5432", "MY_DB_PORT_5432_TCP_PROTO=tcp",
		"MY_DB_PORT_53_UDP=udp://10.0.0.2:53", "MY_DB_PORT_53_UDP_ADDR=10.0.0.2", "MY_DB_PORT_53_UDP_PORT=53", "MY_DB_PORT_53_UDP_PROTO=udp",
		"MY_DB_PORT_80_TCP_START=tcp://10.0.0.2:80", "MY_DB_PORT_80_TCP_PORT_START=80",
		"MY_DB_PORT_80_TCP_END=tcp://10.0.0.2:81", "MY_DB_PORT_80_TCP_PORT_END=81",
		"MY_DB_NAME=/web/my-db", "MY_DB_ENV_USER=me", "MY_DB_ENV_EMPTY=",
	})
	assert.DeepEqual(t, linkVariables("/web/db", netip.MustParseAddr("10.0.0.2"), &state.Container{Config: &container.Config{}}),
		[]string{"DB_NAME=/web/db"})
}
