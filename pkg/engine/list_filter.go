package engine

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/go-connections/nat"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// containerFilters are the filters of ps; node is ours.
var containerFilters = map[string]bool{
	"ancestor": true, "before": true, "exited": true, "expose": true, "health": true, "id": true, "is-task": true,
	"isolation": true, "label": true, "name": true, "network": true, "node": true, "publish": true, "since": true,
	"status": true, "volume": true,
}

// listFilter decides which containers a list shows, asked newest first. It is used for one list, by one goroutine.
type listFilter struct {
	args  filters.Args
	all   bool
	limit int // 0: none

	names  []pattern
	labels []labelWanted
	ids    map[nereid.ContainerID]bool // nil: any
	exited []int

	before, since nereid.ContainerID // empty: not asked
	images        map[nereid.ImageID]bool
	byImage       bool

	noTasks          bool // tasks are of swarms: a filter that wants them finds nothing
	publish, expose  map[nat.Port]bool
	needPorts        bool
	volumes, network []string
	nodes            []string
	byState          bool // status or health

	shown int
}

// decision on one container.
type decision int

const (
	skip decision = iota
	show
	stop // neither this one nor any older
)

// listLookup is what a filter must look up while it is read.
type listLookup interface {
	// byPrefix finds the container whose id begins so, if it is the only one.
	byPrefix(prefix string) (nereid.ContainerID, bool)
	// byIDOrName finds a container by its whole id or name. Errors are Docker's.
	byIDOrName(ref string) (nereid.ContainerID, error)
	// descendants are the ids of the image named and of those made from it; none when there is no such image.
	descendants(ref string) []nereid.ImageID
}

// newListFilter reads what a client asks for. Errors carry Docker's words.
func newListFilter(opts container.ListOptions, look listLookup) (*listFilter, error) {
	if err := opts.Filters.Validate(containerFilters); err != nil {
		return nil, err
	}
	f := &listFilter{args: opts.Filters, all: opts.All, limit: max(opts.Limit, 0)}
	f.volumes, f.network, f.nodes = f.args.Get("volume"), f.args.Get("network"), f.args.Get("node")
	f.byState = f.args.Contains("status") || f.args.Contains("health")
	for _, v := range f.args.Get("name") {
		f.names = append(f.names, newPattern(v))
	}
	for _, v := range f.args.Get("label") {
		key, value, valued := strings.Cut(v, "=")
		f.labels = append(f.labels, labelWanted{key, value, valued})
	}
	for _, read := range []func(listLookup) error{f.readExited, f.readStates, f.readTask, f.readAround, f.readIDs, f.readAncestors, f.readPorts} {
		if err := read(look); err != nil {
			return nil, err
		}
	}
	return f, nil
}

func invalidFilter(format string, args ...any) error {
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(format, args...))
}

func (f *listFilter) readExited(listLookup) error {
	for _, v := range f.args.Get("exited") {
		code, err := strconv.Atoi(v)
		if err != nil {
			return invalidFilter("invalid filter 'exited=%s': %v", v, err)
		}
		f.exited = append(f.exited, code)
	}
	return nil
}

func (f *listFilter) readStates(listLookup) error {
	for _, v := range f.args.Get("status") {
		if err := container.ValidateContainerState(v); err != nil {
			return invalidFilter("invalid filter 'status=%s': %v", v, err)
		}
		f.all = true
	}
	for _, v := range f.args.Get("health") {
		if err := container.ValidateHealthStatus(v); err != nil {
			return invalidFilter("invalid filter 'health=%s': %v", v, err)
		}
	}
	return nil
}

func (f *listFilter) readTask(listLookup) (err error) {
	f.noTasks, err = f.args.GetBoolOrDefault("is-task", false)
	return err
}

func (f *listFilter) readAround(look listLookup) (err error) {
	for _, v := range f.args.Get("before") {
		if f.before, err = look.byIDOrName(v); err != nil {
			return err
		}
	}
	for _, v := range f.args.Get("since") {
		if f.since, err = look.byIDOrName(v); err != nil {
			return err
		}
	}
	return nil
}

// readIDs resolves each id: one that is ambiguous or nobody's matches nothing.
func (f *listFilter) readIDs(look listLookup) error {
	ids := f.args.Get("id")
	if len(ids) == 0 {
		return nil
	}
	f.ids = map[nereid.ContainerID]bool{}
	for _, v := range ids {
		if id, ok := look.byPrefix(v); ok {
			f.ids[id] = true
		}
	}
	return nil
}

func (f *listFilter) readAncestors(look listLookup) error {
	f.byImage = f.args.Contains("ancestor")
	f.images = map[nereid.ImageID]bool{}
	for _, v := range f.args.Get("ancestor") {
		for _, id := range look.descendants(v) {
			f.images[id] = true
		}
	}
	return nil
}

func (f *listFilter) readPorts(listLookup) (err error) {
	if f.publish, err = portSet("publish", f.args.Get("publish")); err != nil {
		return err
	}
	if f.expose, err = portSet("expose", f.args.Get("expose")); err != nil {
		return err
	}
	f.needPorts = len(f.publish)+len(f.expose) > 0
	return nil
}

// portSet reads ports and ranges: "80", "80/udp", "8000-8010/tcp".
func portSet(key string, values []string) (map[nat.Port]bool, error) {
	set := map[nat.Port]bool{}
	for _, v := range values {
		if strings.Contains(v, ":") {
			return nil, fmt.Errorf("filter for '%s' should not contain ':': %s", key, v)
		}
		proto, ports := nat.SplitProtoPort(v)
		start, end, err := nat.ParsePortRange(ports)
		for p := start; err == nil && p <= end; p++ {
			var port nat.Port
			if port, err = nat.NewPort(proto, strconv.FormatUint(p, 10)); err == nil {
				set[port] = true
			}
		}
		if err != nil {
			return nil, fmt.Errorf("error while looking up for %s %s: %w", key, v, err)
		}
	}
	return set, nil
}

// decide on the next container. ports are asked for only where a filter is about them.
func (f *listFilter) decide(r *state.Container, ports func(*state.Container) []container.Port) decision {
	if !f.identified(r) {
		return skip
	}
	if f.before != "" {
		if r.ID == f.before {
			f.before = ""
		}
		return skip
	}
	if f.since != "" && r.ID == f.since {
		return stop
	}
	if !listedRunning(r) && !f.all && f.limit == 0 {
		return skip
	}
	if f.noTasks || !f.labelled(r) {
		return skip
	}
	if f.limit > 0 && f.shown == f.limit {
		return stop
	}
	if !f.inState(r) || !f.usesThings(r) || f.needPorts && !f.hasPort(ports(r)) {
		return skip
	}
	f.shown++
	return show
}

// identified tells whether the container is one of those that name and id leave: as with Docker, before and since
// count among them only.
func (f *listFilter) identified(r *state.Container) bool {
	if f.ids != nil && !f.ids[r.ID] {
		return false
	}
	return len(f.names) == 0 || slices.ContainsFunc(f.names, func(p pattern) bool { return p.matchName(r.Name) })
}

// labelled tells whether the container has all labels wanted, on one of the hosts wanted.
func (f *listFilter) labelled(r *state.Container) bool {
	for _, l := range f.labels {
		if value, ok := shownLabel(r, l.key); !ok || l.valued && value != l.value {
			return false
		}
	}
	return len(f.nodes) == 0 || slices.Contains(f.nodes, string(r.Host))
}

// labelWanted is a label that must be there, with a value where one was given.
type labelWanted struct {
	key, value string
	valued     bool
}

func (f *listFilter) inState(r *state.Container) bool {
	if len(f.exited) > 0 {
		ended := !listedRunning(r) && !r.State.StartedAt.IsZero()
		if !ended || !slices.Contains(f.exited, r.State.ExitCode) {
			return false
		}
	}
	return !f.byState || f.args.ExactMatch("status", r.State.Status) && f.args.ExactMatch("health", healthOf(r))
}

func (f *listFilter) usesThings(r *state.Container) bool {
	if f.byImage && !f.images[r.ImageID] {
		return false
	}
	if len(f.volumes) > 0 && !slices.ContainsFunc(r.Mounts, f.mounts) {
		return false
	}
	return len(f.network) == 0 || f.onNetwork(r)
}

// mounts tells whether a mount is the one asked for: by where it is, by its volume's name, or by its source where it
// has no name.
func (f *listFilter) mounts(m state.Mount) bool {
	what := m.Name
	if what == "" {
		what = m.Source
	}
	return slices.Contains(f.volumes, what) || slices.Contains(f.volumes, m.Destination)
}

func (f *listFilter) onNetwork(r *state.Container) bool {
	for name, ep := range r.Networks {
		for _, v := range f.network {
			if name == v || ep != nil && strings.HasPrefix(string(ep.Network), v) {
				return true
			}
		}
	}
	return false
}

func (f *listFilter) hasPort(ports []container.Port) bool {
	return slices.ContainsFunc(ports, func(p container.Port) bool {
		return f.publish[nat.Port(fmt.Sprintf("%d/%s", p.PublicPort, p.Type))] || f.expose[nat.Port(fmt.Sprintf("%d/%s", p.PrivatePort, p.Type))]
	})
}

// wholeNames are the only names that the name filters match; none where one of them may match others.
func (f *listFilter) wholeNames() []string {
	var whole []string
	for _, p := range f.names {
		if p.whole == "" {
			return nil
		}
		whole = append(whole, p.whole)
	}
	return whole
}

// pattern is a name as the filters take it: exactly, or a regular expression found anywhere in it.
type pattern struct {
	exact  string
	search *regexp.Regexp // nil: it is none
	whole  string         // the only name it matches, with or without a slash before it; empty: it may match others
	part   string         // it matches the names that have this in them, and no others; empty: it is an expression
}

func newPattern(s string) pattern {
	re, err := regexp.Compile(s)
	if err != nil {
		re = nil // Docker takes what is no expression for a plain name
	}
	p := pattern{exact: s, search: re, whole: wholeName(s)}
	if regexp.QuoteMeta(s) == s && !strings.Contains(s, "/") {
		p.part = s
	}
	return p
}

// plainName is an expression that stands for one name: "^web$", and with a slash as compose writes it.
var plainName = regexp.MustCompile(`^\^(?:/\??)?([a-zA-Z0-9][a-zA-Z0-9_-]*)\$$`)

func wholeName(expression string) string {
	if m := plainName.FindStringSubmatch(expression); m != nil {
		return m[1]
	}
	return ""
}

// matchName takes a name with or without the slash that Docker has before it.
func (p pattern) matchName(name string) bool {
	if p.part != "" {
		return strings.Contains(name, p.part)
	}
	return p.match(name) || p.match("/"+name)
}

func (p pattern) match(s string) bool {
	return s == p.exact || p.search != nil && p.search.MatchString(s)
}
