package network

import (
	"net/netip"
	"testing"

	"gotest.tools/v3/assert"
)

func meshPorts(at string, port uint16, owner string) []MeshPort {
	var list []MeshPort
	for _, proto := range []string{"tcp", "udp"} {
		list = append(list, MeshPort{Proto: proto, HostIP: netip.MustParseAddr(at), Port: port, Owner: netip.MustParseAddr(owner)})
	}
	return list
}

func TestPortsOfOtherHostsAnswer(t *testing.T) {
	f := newFabric(t)
	other := machine(t) // the owner
	listen(t, other, "owner", "192.0.2.2:8080")
	assert.NilError(t, f.Restore(t.Context(), nil))
	assert.NilError(t, f.SetMesh(t.Context(), append(meshPorts("0.0.0.0", 8080, "192.0.2.2"), meshPorts("::", 8080, "192.0.2.2")...)))
	for _, at := range []string{"127.0.0.1:8080", "192.0.2.1:8080", "[::1]:8080"} {
		reaches(t, nil, at, "owner")
	}
	// The kernel carries what comes from elsewhere: it needs nobody to accept.
	f.mesh.mu.Lock()
	for s, h := range f.mesh.holds {
		if s.at.Addr().Is4() {
			h.close()
		}
	}
	f.mesh.mu.Unlock()
	reaches(t, nil, "192.0.2.1:8080", "owner")
	misses(t, nil, "127.0.0.1:8080")
	assert.NilError(t, f.SetMesh(t.Context(), nil))
	misses(t, nil, "192.0.2.1:8080")
	assert.NilError(t, f.SetMesh(t.Context(), meshPorts("0.0.0.0", 8080, "192.0.2.2")))
	misses(t, nil, "[::1]:8080")

	// A container of this host has it now; that the owner gave it back is not known here yet.
	b := newBox(t, f, 2, testNetwork(1))
	listen(t, b.ns, "heir", ":80")
	assert.NilError(t, f.Publish(t.Context(), b.id, both("0.0.0.0", 8080, b, 80)))
	reaches(t, nil, "127.0.0.1:8080", "heir")
	assert.NilError(t, f.SetMesh(t.Context(), nil))
	reaches(t, nil, "127.0.0.1:8080", "heir")

	// A port that another process has is no reason not to answer on the others.
	listen(t, nil, "squatter", "127.0.0.1:7070")
	listen(t, other, "owner", "192.0.2.2:7071")
	assert.NilError(t, f.SetMesh(t.Context(), append(meshPorts("0.0.0.0", 7070, "192.0.2.2"), meshPorts("0.0.0.0", 7071, "192.0.2.2")...)))
	reaches(t, nil, "127.0.0.1:7071", "owner")
	reaches(t, nil, "127.0.0.1:7070", "squatter")
}
