package engine

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/docker/docker/api/types/mount"
	networktypes "github.com/docker/docker/api/types/network"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/network"
	"github.com/nereid-paas/nereid/pkg/state"
	"github.com/nereid-paas/nereid/runtime"
)

// The host's files that a container's are made from.
const (
	hostHosts      = "/etc/hosts"
	hostResolvConf = "/etc/resolv.conf"
)

// EtcFiles are the files of the container's directory that it has in /etc. A container that shares another's network
// has the other's, and so on to the one whose network it is.
type EtcFiles struct{ Hosts, ResolvConf, Hostname string }

// EtcFiles of a container, which Sandbox writes.
func (n *Networks) EtcFiles(r *state.Container) EtcFiles {
	owner := n.netnsOwner(r)
	dir := filepath.Join(n.DataRoot, "containers", string(owner.Account), string(owner.ID))
	return EtcFiles{
		Hosts: filepath.Join(dir, "hosts"), ResolvConf: filepath.Join(dir, "resolv.conf"), Hostname: filepath.Join(dir, "hostname"),
	}
}

// netnsOwner is the container whose network one has: its own, or the one at the end of those it joins. A container can join
// only what is there when it is created, but a name may have been given to another since: the chain is cut where it closes.
func (n *Networks) netnsOwner(r *state.Container) *state.Container {
	seen := map[nereid.ContainerID]bool{}
	for mode := r.HostConfig.NetworkMode; mode.IsContainer() && !seen[r.ID]; mode = r.HostConfig.NetworkMode {
		seen[r.ID] = true
		d, err := n.State.View().FindContainer(r.Account, mode.ConnectedContainer())
		if err != nil {
			break
		}
		r = d
	}
	return r
}

// EtcMounts put the files where the container looks for them, except where the user mounted something else.
func (n *Networks) EtcMounts(r *state.Container) []runtime.Mount {
	files := n.EtcFiles(r)
	taken := map[string]bool{}
	for _, m := range r.Mounts {
		taken[filepath.Clean(m.Destination)] = true
	}
	var list []runtime.Mount
	for _, m := range [][2]string{{files.ResolvConf, "/etc/resolv.conf"}, {files.Hostname, "/etc/hostname"}, {files.Hosts, "/etc/hosts"}} {
		if taken[m[1]] {
			continue
		}
		list = append(list, runtime.Mount{
			Type: string(mount.TypeBind), Source: m[0], Destination: m[1],
			ReadOnly: r.HostConfig.ReadonlyRootfs, Propagation: string(mount.PropagationRPrivate), IDMapped: true,
		})
	}
	return list
}

// writeEtcFiles writes the files and returns what the sandbox must know of them.
func (n *Networks) writeEtcFiles(r *state.Container) (network.SandboxOptions, error) {
	dns, err := dnsOf(r)
	if err != nil {
		return network.SandboxOptions{}, err
	}
	hosts, err := n.hostsContent(r)
	if err != nil {
		return network.SandboxOptions{}, err
	}
	host, err := readOptional(hostResolvConf)
	if err != nil {
		return network.SandboxOptions{}, err
	}
	files := n.EtcFiles(r)
	if err := os.MkdirAll(filepath.Dir(files.Hosts), 0o710); err != nil {
		return network.SandboxOptions{}, err
	}
	// They are written in place: a running container has them bound.
	err = errors.Join(
		os.WriteFile(files.Hosts, hosts, 0o644),
		os.WriteFile(files.ResolvConf, resolvContent(r, host, dns), 0o644),
		os.WriteFile(files.Hostname, []byte(r.Config.Hostname+"\n"), 0o644),
	)
	return n.sandboxOptions(r, dns), err
}

// rewriteResolvConf is for a running container that came onto its first network, or left its last, and has another
// resolver now.
func (n *Networks) rewriteResolvConf(r *state.Container) error {
	dns, err := dnsOf(r)
	if err != nil {
		return err
	}
	host, err := readOptional(hostResolvConf)
	if err != nil {
		return err
	}
	return os.WriteFile(n.EtcFiles(r).ResolvConf, resolvContent(r, host, dns), 0o644)
}

// readOptional reads a file of the host; one that is not there is empty.
func readOptional(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

func dnsOf(r *state.Container) (network.DNS, error) {
	hc := r.HostConfig
	return network.ParseDNS(hc.DNS, hc.DNSSearch, hc.DNSOptions)
}

func resolvContent(r *state.Container, host []byte, dns network.DNS) []byte {
	switch netModeOf(r) {
	case hostNetns:
		return network.HostResolvConf(host, dns)
	case emptyNetns:
		return network.PlainResolvConf(host, dns)
	}
	content, _ := network.ResolvConf(host, dns)
	return content
}

func (n *Networks) sandboxOptions(r *state.Container, dns network.DNS) network.SandboxOptions {
	host, _ := readOptional(hostResolvConf)
	_, ndots := network.ResolvConf(host, dns)
	return network.SandboxOptions{
		Account: r.Account, Upstreams: network.Upstreams(dns.Servers), NdotsSet: ndots,
		LoopbackOnly: netModeOf(r) == emptyNetns, IDMap: idMapOf(r),
	}
}

// hostsContent is the container's /etc/hosts. One in the host's network has the host's, unless it has names of its
// own to add: then the host's lines could stand against them.
func (n *Networks) hostsContent(r *state.Container) ([]byte, error) {
	entries, err := network.ExtraHosts(r.HostConfig.ExtraHosts, n.hostGateways(r))
	if err != nil {
		return nil, err
	}
	if netModeOf(r) == hostNetns {
		if len(entries) == 0 {
			return readOptional(hostHosts)
		}
		return network.Hosts(entries, hasIPv6(r)), nil
	}
	return network.Hosts(append(entries, n.entries(r)...), hasIPv6(r)), nil
}

// hasIPv6 tells whether a container's network namespace has IPv6: the host may have none, or the container's settings
// switch it off.
func hasIPv6(r *state.Container) bool {
	return network.HasIPv6() && !withoutIPv6(r)
}

// withoutIPv6 tells whether the settings that a container asks for leave its loopback without IPv6, as Docker looks at it.
func withoutIPv6(r *state.Container) bool {
	s := r.HostConfig.Sysctls
	return s["net.ipv6.conf.all.disable_ipv6"] == "1" || s["net.ipv6.conf.lo.disable_ipv6"] == "1"
}

// entries are the lines for what the container links to, and for its own addresses.
func (n *Networks) entries(r *state.Container) []network.HostEntry {
	return append(n.linkEntries(r), n.ownEntries(r)...)
}

// ownEntries are the lines for the container's own addresses.
func (n *Networks) ownEntries(r *state.Container) (entries []network.HostEntry) {
	names := network.OwnNames(r.Config.Hostname, r.Config.Domainname)
	for _, a := range n.attachments(r) {
		if a.Endpoint.Address.IsValid() {
			entries = append(entries, network.HostEntry{Addr: a.Endpoint.Address.Addr(), Names: names})
		}
		if a.Endpoint.Address6.IsValid() {
			entries = append(entries, network.HostEntry{Addr: a.Endpoint.Address6.Addr(), Names: names})
		}
	}
	return entries
}

// linkEntries are the lines for the containers that this one is linked to on the default network and that run.
func (n *Networks) linkEntries(r *state.Container) []network.HostEntry {
	var list []network.HostEntry
	for alias, to := range linksOf(n.State.View(), r) {
		ep := to.Networks[networktypes.NetworkBridge]
		if ep == nil {
			continue
		}
		names := []string{alias, to.Config.Hostname}
		if alias != to.Name {
			names = append(names, to.Name)
		}
		for _, a := range []netip.Prefix{ep.Address, ep.Address6} {
			if a.IsValid() {
				list = append(list, network.HostEntry{Addr: a.Addr(), Names: names})
			}
		}
	}
	return list
}

// editHosts has the /etc/hosts of a running container follow its addresses. Lines that others wrote there stay.
func (n *Networks) editHosts(old, next *state.Container) error {
	path := n.EtcFiles(next).Hosts
	n.pointing.Lock()
	defer n.pointing.Unlock()
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	edited := network.EditHosts(content, n.entries(old), n.entries(next), hasIPv6(next))
	return os.WriteFile(path, edited, 0o644)
}
