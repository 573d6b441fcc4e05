package main

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/pflag"

	"github.com/nereid-paas/nereid/pkg/peer"
	"github.com/nereid-paas/nereid/pkg/state"
)

// options are what the command line says, checked by validate.
type options struct {
	hosts          []string // -H: unix://PATH or tcp://ADDR:PORT
	dataRoot       string
	execRoot       string
	name           string
	advertise      string
	labels         []string
	dc             string
	zone           string
	cnsListen      string
	cnsConfig      string
	cnsTLS         string
	cnsCert        string // with cnsKey; empty: the host's own certificate
	cnsKey         string
	cnsLimits      []string
	cnsUnlimited   []string
	cnsNSID        string
	cnsAsked       bool // --cns-listen was given: failing to listen is then fatal
	metricsListen  string
	stateEndpoints []string
	containerd     string
	runc           string
	addressPool    string
	join           string // ADDR:PORT of a host of the fleet to join
	token          string
	server         bool   // join as a server
	peerListen     string // for other hosts
	peerAsked      bool   // --peer-listen was given: listen whether somebody may join or not
	gossipListen   string
	lastServer     bool     // the state's other servers are gone for good
	insecure       []string // registries: host[:port] or CIDR
	mirrors        []string // of Docker Hub: URLs
	runtimes       []string // name=path
	defaultRuntime string
	usernsRemap    string // user[:group] or default; empty: no user namespaces
	cdiSpecDirs    []string
	debug          bool
	keepEvents     int
	trace          string  // file of where time goes; "-": standard error; empty: not traced
	overMemory     float64 // how many times the host's memory may be reserved; 0: without limit
	overCPUs       float64
}

func (o *options) flags(f *pflag.FlagSet) {
	host, _ := os.Hostname()
	f.StringArrayVarP(&o.hosts, "host", "H", nil, "where the Docker API listens: unix://PATH or tcp://ADDR:PORT on loopback (default unix://EXEC-ROOT/docker.sock)")
	f.StringVar(&o.dataRoot, "data-root", "/var/lib/nereid", "what must outlive a reboot")
	f.StringVar(&o.execRoot, "exec-root", "/run/nereid", "what need not")
	f.StringVar(&o.name, "name", strings.ToLower(host), "this host's name in the fleet")
	f.StringVar(&o.advertise, "advertise", "", "this host's address as others reach it (default: the one of the default route)")
	f.StringArrayVar(&o.labels, "label", nil, "k=v, a label of this host")
	f.StringVar(&o.dc, "dc", "dc1", "data center, a part of every CNS name")
	f.StringVar(&o.zone, "cns-zone", "cns.internal", "DNS zone of the container name service")
	f.StringVar(&o.cnsListen, "cns-listen", "127.0.0.1:53", "where the container name service answers, UDP and TCP")
	f.StringVar(&o.cnsConfig, "cns-config", "", "file of DNS zones, a line each: ZONE KEY=VALUE..., as nereid cns zone add takes them")
	f.StringVar(&o.cnsTLS, "cns-tls-listen", "", "where it answers over TLS, ADDR:853 (default: nowhere)")
	f.StringVar(&o.cnsCert, "cns-tls-cert", "", "its certificate there, PEM, read again when it changes (default: the host's own, of the fleet's authority)")
	f.StringVar(&o.cnsKey, "cns-tls-key", "", "the key of --cns-tls-cert")
	f.StringSliceVar(&o.cnsLimits, "cns-limits", nil, "what one network of DNS clients gets, 0 for no limit: responses=200 equal ones a second over UDP, slip=2 of those beyond for one that sends the client to TCP, queries=10000 a second, connections=32")
	f.StringSliceVar(&o.cnsUnlimited, "cns-unlimited", nil, "CIDRs without such limits (default: loopback, private and link-local addresses)")
	f.StringVar(&o.cnsNSID, "cns-nsid", "", "what DNS clients are told who ask which server they have (default: --name; \"none\": nothing)")
	f.StringVar(&o.metricsListen, "metrics-listen", "", "where Prometheus metrics are served (default: nowhere)")
	f.StringSliceVar(&o.stateEndpoints, "state-endpoints", nil, "URLs of an existing etcd cluster (default: embedded)")
	f.StringVar(&o.containerd, "containerd", "", "socket of an existing containerd (default: embedded)")
	f.StringVar(&o.runc, "runc", "", "path of runc (default: beside this program, else in PATH)")
	f.StringVar(&o.addressPool, "address-pool", "10.128.0.0/10,size=20", "CIDR,size=N: where networks without a subnet of their own get one")
	f.StringArrayVar(&o.insecure, "insecure-registry", nil, "host[:port] or CIDR of registries that may speak plain http or have unknown certificates (loopback always may)")
	f.StringArrayVar(&o.mirrors, "registry-mirror", nil, "URL of a mirror of Docker Hub, to be asked before it")
	f.Float64Var(&o.overMemory, "overcommit-memory", 1, "how many times this host's memory containers may reserve, in a fleet of several hosts; 0: without limit")
	f.Float64Var(&o.overCPUs, "overcommit-cpus", 1, "how many times this host's CPUs containers may reserve, likewise; 0: without limit")
	f.StringVar(&o.join, "join", "", "ADDR:PORT of a host of the fleet to join; a host that has joined goes on without")
	f.StringVar(&o.token, "token", "", "what lets this host join, from `nereid token`")
	f.BoolVar(&o.server, "server", false, "join as a server: hold a copy of the state")
	f.BoolVar(&o.lastServer, "last-server", false, "the other servers are gone for good: go on with this one's copy of the state, once; then remove them with nereid host rm")
	f.StringVar(&o.peerListen, "peer-listen", ":2377", "where other hosts reach this one, TCP; a host that nobody may join listens only when this is given")
	f.StringVar(&o.gossipListen, "gossip-listen", ":7946", "where other hosts tell this one who is alive, UDP and TCP; likewise")
	f.StringArrayVar(&o.runtimes, "add-runtime", nil, "name=path of a program with runc's command line, for docker run --runtime")
	f.StringVar(&o.defaultRuntime, "default-runtime", "runc", "the runtime of containers that name none")
	f.StringVar(&o.usernsRemap, "userns-remap", "", "user[:group] whose ranges in /etc/subuid and /etc/subgid new containers get, or default (default: the host's users)")
	f.StringArrayVar(&o.cdiSpecDirs, "cdi-spec-dir", []string{"/etc/cdi", "/var/run/cdi"}, "where CDI specifications of devices lie; an empty one switches CDI off")
	f.IntVar(&o.keepEvents, "keep-events", state.DefaultEvents, "how many events are kept, for a day at most; in a fleet the smallest number counts")
	f.BoolVar(&o.debug, "debug", false, "log more, and serve profiles at /debug/pprof/")
	f.StringVar(&o.trace, "trace", "", "file to append a line to for every step of every request, with the time it took; -: standard error (default: nowhere)")
}

// maxOvercommit keeps bytes of memory times the factor within 64 bits; nobody means more.
const maxOvercommit = 1000

var hostName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// validate returns every problem at once.
func (o *options) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !hostName.MatchString(o.name) {
		bad("--name %q: a host name is a DNS label: a-z, 0-9 and '-', at most 63", o.name)
	}
	if o.advertise != "" {
		if _, err := netip.ParseAddr(o.advertise); err != nil {
			bad("--advertise %q: not an address", o.advertise)
		}
	}
	if o.keepEvents < 1 {
		bad("--keep-events %d: not above 0", o.keepEvents)
	}
	for _, p := range []struct{ flag, path string }{{"--data-root", o.dataRoot}, {"--exec-root", o.execRoot}} {
		if !filepath.IsAbs(p.path) {
			bad("%s %q: not an absolute path", p.flag, p.path)
		}
	}
	for _, h := range o.hosts {
		if err := checkHost(h); err != nil {
			bad("-H %q: %w", h, err)
		}
	}
	for _, l := range o.labels {
		if k, _, ok := strings.Cut(l, "="); !ok || k == "" {
			bad("--label %q: not k=v", l)
		}
	}
	for _, r := range o.insecure {
		if err := checkRegistry(r); err != nil {
			bad("--insecure-registry %q: %w", r, err)
		}
	}
	for _, m := range o.mirrors {
		if err := checkMirror(m); err != nil {
			bad("--registry-mirror %q: %w", m, err)
		}
	}
	for _, f := range []struct {
		flag   string
		factor float64
	}{{"--overcommit-memory", o.overMemory}, {"--overcommit-cpus", o.overCPUs}} {
		if f.factor < 0 || f.factor > maxOvercommit || math.IsNaN(f.factor) {
			bad("%s %g: a factor of 0 to %d", f.flag, f.factor, maxOvercommit)
		}
	}
	if err := o.checkRuntimes(); err != nil {
		errs = append(errs, err)
	}
	if !hostName.MatchString(o.dc) {
		bad("--dc %q: not a DNS label", o.dc)
	}
	if err := checkZone(o.zone); err != nil {
		bad("--cns-zone %q: %w", o.zone, err)
	}
	o.validateJoin(bad)
	if _, err := o.limits(); err != nil {
		errs = append(errs, err)
	}
	if (o.cnsCert == "") != (o.cnsKey == "") || o.cnsCert != "" && o.cnsTLS == "" {
		bad("--cns-tls-cert and --cns-tls-key go together, and with --cns-tls-listen")
	}
	for _, l := range []struct{ flag, addr string }{
		{"--cns-listen", o.cnsListen}, {"--cns-tls-listen", o.cnsTLS}, {"--metrics-listen", o.metricsListen}, {"--join", o.join}, {"--peer-listen", o.peerListen}, {"--gossip-listen", o.gossipListen},
	} {
		if l.addr == "" {
			continue
		}
		if _, _, err := net.SplitHostPort(l.addr); err != nil {
			bad("%s %q: not ADDR:PORT", l.flag, l.addr)
		}
	}
	return errors.Join(errs...)
}

// validateJoin looks at what a join needs.
func (o *options) validateJoin(bad func(string, ...any)) {
	if o.token != "" {
		if err := peer.CheckToken(o.token); err != nil {
			bad("--token: %w", err)
		}
	}
	switch {
	case o.join == "" && (o.token != "" || o.server):
		bad("--token and --server go with --join")
	case o.join != "" && o.token == "":
		bad("--join needs a --token")
	case o.join != "" && len(o.stateEndpoints) > 0:
		bad("--join and --state-endpoints: hosts that share an etcd cluster of their own need no join")
	}
}

func checkHost(h string) error {
	scheme, rest, ok := strings.Cut(h, "://")
	switch {
	case ok && scheme == "unix" && filepath.IsAbs(rest):
		return nil
	case ok && scheme == "tcp":
		_, _, err := net.SplitHostPort(rest)
		return err
	}
	return errors.New("neither unix:///PATH nor tcp://ADDR:PORT")
}

func checkRegistry(r string) error {
	if _, err := netip.ParsePrefix(r); err == nil {
		return nil
	}
	if r == "" || strings.Contains(r, "/") {
		return errors.New("neither host[:port] nor CIDR")
	}
	return nil
}

// checkMirror wants what dockerd wants of a mirror.
func checkMirror(m string) error {
	u, err := url.Parse(m)
	switch {
	case err != nil:
		return err
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return errors.New("neither http://HOST nor https://HOST")
	case u.User != nil, strings.Trim(u.Path, "/") != "", u.RawQuery != "", u.Fragment != "":
		return errors.New("no user, path, query or fragment may follow")
	}
	return nil
}

func checkZone(z string) error {
	for label := range strings.SplitSeq(strings.TrimSuffix(z, "."), ".") {
		if !hostName.MatchString(label) {
			return fmt.Errorf("%q is not a DNS label", label)
		}
	}
	return nil
}
