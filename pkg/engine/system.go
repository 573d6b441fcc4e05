package engine

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/registry"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/api/types/system"
	"github.com/docker/go-units"

	"github.com/nereid-paas/nereid/pkg/logs"
	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// SystemConfig says what the daemon knows of itself and its host beside the state.
type SystemConfig struct {
	Name        string     // of the fleet, as info shows it; empty: the data center's
	Advertise   netip.Addr // of this host
	Labels      map[string]string
	Runc        string // path
	Init        string // path of the static init
	Commit      string // this program's; empty: as the Go tool noted, if it did
	Built       string // when, RFC 3339; empty likewise
	Containerd  string // address of an existing containerd; empty: embedded
	Debug       bool
	Runtimes    map[string]string // beside runc: paths by name
	CDISpecDirs []string
	// Devices are the names of the devices of CDI specifications, and what is wrong with those; nil: there are none.
	Devices  func() (names, warnings []string)
	Pools    []system.NetworkAddressPool
	Insecure []string // registries, as host[:port] or CIDR
	Mirrors  []string // of Docker Hub: URLs
	Warnings []string // shown by info as they are
	// OvercommitMemory and OvercommitCPUs are how many times what this host has containers may reserve; 0: without limit.
	OvercommitMemory, OvercommitCPUs float64
}

// System answers for the fleet as a whole: info, version, events, disk usage. All methods may be called at once.
type System struct {
	Deps
	cfg        SystemConfig
	containers containerLister
	images     imageUses
	volumes    *Volumes

	started   time.Time
	facts     func() hostFacts // of this host, found out once
	listeners atomic.Int64     // readers of events
}

// NewSystem makes the use cases of the system as a whole. Containers, images and volumes are what disk usage measures.
func NewSystem(d Deps, cfg SystemConfig, c containerLister, i imageUses, v *Volumes) *System {
	return &System{
		Deps: d, cfg: cfg, containers: c, images: i, volumes: v,
		started: time.Now(),
		facts:   sync.OnceValue(func() hostFacts { return findHostFacts(cfg) }),
	}
}

// HostRecord is this host as the fleet's state shall hold it.
func (s *System) HostRecord(ctx context.Context) *state.Host {
	f := s.facts()
	return &state.Host{
		Name:              s.Host,
		Advertise:         s.cfg.Advertise,
		CPUs:              f.cpus,
		Memory:            f.memory,
		OS:                f.os,
		OSType:            runtime.GOOS,
		Architecture:      f.architecture,
		KernelVersion:     f.kernel,
		Version:           s.Deps.Version,
		Labels:            s.cfg.Labels,
		StartedAt:         s.started,
		CgroupVersion:     f.cgroupVersion(),
		ContainerdVersion: f.containerd,
		RuncVersion:       f.runc.version,
		OvercommitMemory:  s.cfg.OvercommitMemory,
		OvercommitCPUs:    s.cfg.OvercommitCPUs,
	}
}

// Info sums over the hosts of the fleet and the things of the account that asks.
func (s *System) Info(ctx context.Context) (*system.Info, error) {
	id, err := s.fleetID(ctx)
	if err != nil {
		return nil, err
	}
	a := nereid.AccountFrom(ctx)
	f := s.facts()
	info := &system.Info{
		ID:                  id,
		Name:                s.fleetName(),
		Images:              len(s.State.View().Images(a)),
		Driver:              "overlayfs",
		SystemTime:          time.Now().Format(time.RFC3339Nano),
		IPv4Forwarding:      ipv4Forwarding(),
		KernelVersion:       f.kernel,
		OperatingSystem:     f.os,
		OSVersion:           f.osVersion,
		OSType:              runtime.GOOS,
		Architecture:        f.architecture,
		DockerRootDir:       s.DataRoot,
		ServerVersion:       s.Deps.Version,
		LoggingDriver:       "json-file",
		IndexServerAddress:  "https://index.docker.io/v1/",
		RegistryConfig:      registryConfig(s.cfg.Insecure, s.cfg.Mirrors),
		HTTPProxy:           proxySetting("HTTP_PROXY", "http_proxy"),
		HTTPSProxy:          proxySetting("HTTPS_PROXY", "https_proxy"),
		NoProxy:             proxySetting("NO_PROXY", "no_proxy"),
		Swarm:               swarm.Info{LocalNodeState: swarm.LocalNodeStateInactive},
		LiveRestoreEnabled:  true,
		SecurityOptions:     f.securityOptions(s.IDMap.Mapped()),
		DefaultAddressPools: s.cfg.Pools,
		FirewallBackend:     &system.FirewallInfo{Driver: "nftables"},
		CDISpecDirs:         append([]string{}, s.cfg.CDISpecDirs...),
		Plugins:             s.plugins(),
		Warnings:            append(f.warnings(), s.cfg.Warnings...),
	}
	s.fillCounts(info, a)
	s.fillHosts(info)
	s.fillRuntime(info, f)
	s.fillDevices(info)
	s.fillProcess(info)
	f.fillCgroups(info)
	return info, nil
}

// fillCounts counts the account's containers by state.
func (s *System) fillCounts(info *system.Info, a nereid.Account) {
	for _, c := range s.State.View().Containers(a) {
		info.Containers++
		switch c.State.Status {
		case state.StatusRunning, state.StatusRestarting:
			info.ContainersRunning++
		case state.StatusPaused:
			info.ContainersPaused++
		default:
			info.ContainersStopped++
		}
	}
}

// fillHosts sums the hosts up and lists them. Their labels are the fleet's.
func (s *System) fillHosts(info *system.Info) {
	hosts := s.State.View().Hosts()
	if len(hosts) == 0 { // ours is being written
		hosts = []*state.Host{s.HostRecord(context.Background())}
	}
	slices.SortFunc(hosts, func(a, b *state.Host) int { return cmp.Compare(a.Name, b.Name) })
	info.DriverStatus = [][2]string{{"Hosts", strconv.Itoa(len(hosts))}}
	info.Labels = []string{}
	for _, h := range hosts {
		info.NCPU += h.CPUs
		info.MemTotal += h.Memory
		info.DriverStatus = append(info.DriverStatus, [2]string{" " + string(h.Name), hostLine(h)})
		for _, k := range slices.Sorted(maps.Keys(h.Labels)) {
			if label := k + "=" + h.Labels[k]; !slices.Contains(info.Labels, label) {
				info.Labels = append(info.Labels, label)
			}
		}
	}
}

// hostLine describes a host in one line.
func hostLine(h *state.Host) string {
	line := fmt.Sprintf("%d CPUs, %s, %s %s", h.CPUs, units.BytesSize(float64(h.Memory)), h.OS, h.KernelVersion)
	if h.Advertise.IsValid() {
		line = h.Advertise.String() + ", " + line
	}
	return line
}

func (s *System) fillRuntime(info *system.Info, f hostFacts) {
	runc := system.RuntimeWithStatus{Runtime: system.Runtime{Path: "runc"}}
	info.Runtimes = map[string]system.RuntimeWithStatus{"runc": runc, "io.containerd.runc.v2": runc}
	for name, path := range s.cfg.Runtimes {
		info.Runtimes[name] = system.RuntimeWithStatus{Runtime: system.Runtime{Path: path}}
	}
	info.DefaultRuntime = orElse(s.DefaultRuntime, defaultRuntime)
	info.InitBinary = "docker-init"
	info.ContainerdCommit = system.Commit{ID: orNA(f.containerd)}
	info.RuncCommit = system.Commit{ID: orNA(f.runc.version)}
	info.InitCommit = system.Commit{ID: orNA(f.init.version)}
	if s.cfg.Containerd != "" {
		info.Containerd = &system.ContainerdInfo{Address: s.cfg.Containerd}
	}
}

// fillDevices lists what --device can name beside files.
func (s *System) fillDevices(info *system.Info) {
	if s.cfg.Devices == nil {
		return
	}
	names, warnings := s.cfg.Devices()
	for _, n := range names {
		info.DiscoveredDevices = append(info.DiscoveredDevices, system.DeviceInfo{Source: "cdi", ID: n})
	}
	info.Warnings = append(info.Warnings, warnings...)
}

func orNA(v string) string {
	if v == "" {
		return "N/A"
	}
	return v
}

// fillProcess says what this daemon's process uses.
func (s *System) fillProcess(info *system.Info) {
	info.Debug = s.cfg.Debug
	info.NGoroutines = runtime.NumGoroutine()
	info.NEventsListener = int(s.listeners.Load())
	info.NFd = -1
	if fds, err := os.ReadDir("/proc/self/fd"); err == nil {
		info.NFd = len(fds) - 1 // one of them reads the directory
	}
}

func (s *System) plugins() system.PluginsInfo {
	return system.PluginsInfo{
		Volume:  []string{localDriver},
		Network: []string{"bridge", "host", "ipvlan", "macvlan", "null", "overlay"},
		Log:     logs.Drivers(),
	}
}

func (s *System) fleetName() string {
	if s.cfg.Name != "" {
		return s.cfg.Name
	}
	return s.DC
}

// fleetID is the same on every endpoint and for the fleet's life: it is derived from the administrator's account, which
// is made once, with the state.
func (s *System) fleetID(ctx context.Context) (string, error) {
	created, err := s.adminCreated(ctx)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte("nereid fleet " + created.UTC().Format(time.RFC3339Nano)))
	id := sum[:16]
	id[6] = id[6]&0x0f | 0x80 // RFC 9562, section 5.8: version 8, made by our own rule
	id[8] = id[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[0:4], id[4:6], id[6:8], id[8:10], id[10:16]), nil
}

// adminCreated reads when the administrator's account was made, and makes it when it is not there yet.
func (s *System) adminCreated(ctx context.Context) (time.Time, error) {
	if a := s.admin(); a != nil {
		return a.Created, nil
	}
	_, err := s.State.Commit(ctx, state.Create(&state.Account{Name: nereid.Admin, Created: time.Now().UTC()}))
	if err != nil && !errdefs.IsAlreadyExists(err) {
		return time.Time{}, fmt.Errorf("create account %q: %w", nereid.Admin, err)
	}
	if a := s.admin(); a != nil {
		return a.Created, nil
	}
	return time.Time{}, errdefs.ErrUnavailable.WithMessage("the state does not show the account " + string(nereid.Admin))
}

func (s *System) admin() *state.Account {
	for _, a := range s.State.View().Accounts() {
		if a.Name == nereid.Admin {
			return a
		}
	}
	return nil
}

// imageUses are what the system asks of the images: their sizes, and whether a registry takes credentials.
type imageUses interface {
	imageLister
	Login(ctx context.Context, auth *registry.AuthConfig) (status, token string, err error)
}

// Login checks credentials with their registry. Nothing is kept.
func (s *System) Login(ctx context.Context, auth *registry.AuthConfig) (status, token string, err error) {
	return s.images.Login(ctx, auth)
}

// registryConfig shows Docker Hub with its mirrors, loopback and the insecure registries configured, as Docker lists them.
func registryConfig(insecure, mirrors []string) *registry.ServiceConfig {
	hub := &registry.IndexInfo{Name: "docker.io", Mirrors: []string{}, Secure: true, Official: true}
	for _, m := range mirrors {
		hub.Mirrors = append(hub.Mirrors, strings.TrimSuffix(m, "/")+"/")
	}
	c := &registry.ServiceConfig{
		InsecureRegistryCIDRs: []*registry.NetIPNet{ipNet("::1/128"), ipNet("127.0.0.0/8")},
		IndexConfigs:          map[string]*registry.IndexInfo{hub.Name: hub},
		Mirrors:               hub.Mirrors,
	}
	for _, r := range insecure {
		if _, n, err := net.ParseCIDR(r); err == nil {
			c.InsecureRegistryCIDRs = append(c.InsecureRegistryCIDRs, (*registry.NetIPNet)(n))
			continue
		}
		c.IndexConfigs[r] = &registry.IndexInfo{Name: r, Mirrors: []string{}}
	}
	return c
}

func ipNet(cidr string) *registry.NetIPNet {
	_, n, err := net.ParseCIDR(cidr)
	if err != nil {
		panic(err) // a constant of ours
	}
	return (*registry.NetIPNet)(n)
}

// EnsureAdmin makes the administrator's account where it is missing.
func (s *System) EnsureAdmin(ctx context.Context) error {
	_, err := s.adminCreated(ctx)
	return err
}
