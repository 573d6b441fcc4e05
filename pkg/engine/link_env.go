package engine

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	networktypes "github.com/docker/docker/api/types/network"
	"github.com/docker/go-connections/nat"

	"github.com/nereid-paas/nereid/pkg/state"
)

// linkEnv are the variables by which a container on the default network finds those it is linked to: DB_PORT, DB_NAME,
// DB_ENV_USER, and so on. On networks of the user's there are none, as with Docker.
func (c *Containers) linkEnv(r *state.Container) []string {
	var env []string
	for alias, to := range linksOf(c.State.View(), r) {
		if ep := to.Networks[networktypes.NetworkBridge]; ep != nil && ep.Address.IsValid() {
			env = append(env, linkVariables("/"+r.Name+"/"+alias, ep.Address.Addr(), to)...)
		}
	}
	return env
}

func linkVariables(link string, addr netip.Addr, to *state.Container) []string {
	prefix := strings.ReplaceAll(strings.ToUpper(link[strings.LastIndex(link, "/")+1:]), "-", "_")
	env := append(portVariables(prefix, addr, to.Config.ExposedPorts), prefix+"_NAME="+link)
	for _, kv := range to.Config.Env {
		if name, value, ok := strings.Cut(kv, "="); ok && name != "HOME" && name != "PATH" {
			env = append(env, prefix+"_ENV_"+name+"="+value)
		}
	}
	return env
}

// portVariables tell of each exposed port, of the first of them under a short name, and of the ends of each range.
func portVariables(prefix string, addr netip.Addr, exposed nat.PortSet) (env []string) {
	ports := make([]nat.Port, 0, len(exposed))
	for p := range exposed {
		ports = append(ports, p)
	}
	nat.Sort(ports, tcpFirst)
	for i, p := range ports {
		url := fmt.Sprintf("%s://%s:%s", p.Proto(), addr, p.Port())
		if i == 0 {
			env = append(env, prefix+"_PORT="+url)
		}
		name := portPrefix(prefix, p)
		env = append(env, name+"="+url, name+"_ADDR="+addr.String(), name+"_PORT="+p.Port(), name+"_PROTO="+p.Proto())
	}
	for len(ports) > 0 {
		n := 1
		for n < len(ports) && ports[n].Proto() == ports[0].Proto() && ports[n].Int() == ports[n-1].Int()+1 {
			n++
		}
		if n > 1 {
			env = append(env, rangeVariables(portPrefix(prefix, ports[0]), addr, ports[0], ports[n-1])...)
		}
		ports = ports[n:]
	}
	return env
}

func portPrefix(prefix string, p nat.Port) string {
	return fmt.Sprintf("%s_PORT_%s_%s", prefix, p.Port(), strings.ToUpper(p.Proto()))
}

func rangeVariables(name string, addr netip.Addr, first, last nat.Port) []string {
	return slices.Concat(
		endVariables(name, "START", addr, first),
		endVariables(name, "END", addr, last),
	)
}

func endVariables(name, end string, addr netip.Addr, p nat.Port) []string {
	return []string{
		fmt.Sprintf("%s_%s=%s://%s:%s", name, end, p.Proto(), addr, p.Port()),
		fmt.Sprintf("%s_PORT_%s=%s", name, end, p.Port()),
	}
}

func tcpFirst(a, b nat.Port) bool {
	if a.Proto() == b.Proto() {
		return a.Int() < b.Int()
	}
	return a.Proto() == "tcp" || b.Proto() != "tcp" && a.Proto() < b.Proto()
}
