package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/backend"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/go-connections/nat"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// listed is a small engine's containers, newest first.
func listed() []*state.Container {
	at := func(minute int) time.Time { return time.Date(2026, 1, 1, 0, minute, 0, 0, time.UTC) }
	return []*state.Container{
		{
			ID: "e500", Name: "web2", Host: "h2", ImageID: "sha256:derived", Created: at(5),
			Config:   &container.Config{Labels: map[string]string{"tier": "front", "x": ""}},
			Networks: map[string]*state.Endpoint{"blue": {Network: "b1ueff"}},
			State:    state.RunState{Status: state.StatusRunning, StartedAt: at(5), Health: &container.Health{Status: container.Healthy}},
		},
		{
			ID: "d400", Name: "db", Host: "h1", ImageID: "sha256:base", Created: at(4),
			Config:   &container.Config{Labels: map[string]string{"tier": "back"}},
			Networks: map[string]*state.Endpoint{"bridge": {Network: "aaaa"}},
			Mounts:   []state.Mount{{Type: "volume", Name: "data", Source: "/x", Destination: "/var/lib/db"}, {Type: "bind", Source: "/etc/db", Destination: "/cfg"}},
			State:    state.RunState{Status: state.StatusPaused, StartedAt: at(4)},
		},
		{
			ID: "c300", Name: "job", Host: "h1", ImageID: "sha256:base", Created: at(3), Config: &container.Config{},
			State: state.RunState{Status: state.StatusExited, StartedAt: at(3), FinishedAt: at(4), ExitCode: 3},
		},
		{
			ID: "b200", Name: "flaky", Host: "h1", ImageID: "sha256:base", Created: at(2), Config: &container.Config{},
			State: state.RunState{Status: state.StatusRestarting, StartedAt: at(3), FinishedAt: at(4), ExitCode: 3},
		},
		{
			ID: "a100", Name: "web", Host: "h1", ImageID: "sha256:other", Created: at(1),
			Config: &container.Config{Labels: map[string]string{"tier": "front"}},
			State:  state.RunState{Status: state.StatusCreated},
		},
	}
}

type lookup struct{ all []*state.Container }

func (l lookup) byPrefix(p string) (nereid.ContainerID, bool) {
	var ids []nereid.ContainerID
	for _, r := range l.all {
		if p != "" && strings.HasPrefix(string(r.ID), p) {
			ids = append(ids, r.ID)
		}
	}
	if len(ids) != 1 {
		return "", false
	}
	return ids[0], true
}

func (l lookup) byIDOrName(ref string) (nereid.ContainerID, error) {
	for _, r := range l.all {
		if string(r.ID) == ref || "/"+r.Name == "/"+strings.TrimPrefix(ref, "/") {
			return r.ID, nil
		}
	}
	return "", errdefs.ErrNotFound.WithMessage("No such container: " + ref)
}

func (lookup) descendants(ref string) []nereid.ImageID {
	switch ref {
	case "base":
		return []nereid.ImageID{"sha256:base", "sha256:derived"}
	case "other":
		return []nereid.ImageID{"sha256:other"}
	}
	return nil
}

func names(t *testing.T, opts container.ListOptions, ports func(*state.Container) []container.Port) []string {
	t.Helper()
	all := listed()
	f, err := newListFilter(opts, lookup{all})
	assert.NilError(t, err)
	shown := []string{}
	for _, r := range all {
		d := f.decide(r, ports)
		if d == stop {
			break
		}
		if d == show {
			shown = append(shown, r.Name)
		}
	}
	return shown
}

// listCases are lists of listed.
func listCases() map[string]listCase {
	arg := func(pairs ...string) filters.Args {
		a := filters.NewArgs()
		for i := 0; i < len(pairs); i += 2 {
			a.Add(pairs[i], pairs[i+1])
		}
		return a
	}
	return map[string]listCase{
		"what runs":               {container.ListOptions{}, []string{"web2", "db", "flaky"}},
		"all":                     {container.ListOptions{All: true}, []string{"web2", "db", "job", "flaky", "web"}},
		"limit means any state":   {container.ListOptions{Limit: 3}, []string{"web2", "db", "job"}},
		"negative limit is none":  {container.ListOptions{Limit: -1}, []string{"web2", "db", "flaky"}},
		"limit after filter":      {container.ListOptions{Limit: 1, Filters: arg("label", "tier=back")}, []string{"db"}},
		"name anywhere":           {container.ListOptions{All: true, Filters: arg("name", "we")}, []string{"web2", "web"}},
		"name's end":              {container.ListOptions{All: true, Filters: arg("name", "b$")}, []string{"db", "job", "web"}},
		"name's beginning":        {container.ListOptions{All: true, Filters: arg("name", "^w")}, []string{"web2", "web"}},
		"one name and its part":   {container.ListOptions{All: true, Filters: arg("name", "^web$", "name", "^nobody$", "name", "lak")}, []string{"flaky", "web"}},
		"name as expression":      {container.ListOptions{All: true, Filters: arg("name", "^/?web$")}, []string{"web"}},
		"name with slash":         {container.ListOptions{All: true, Filters: arg("name", "/db")}, []string{"db"}},
		"names are alternatives":  {container.ListOptions{All: true, Filters: arg("name", "job", "name", "db")}, []string{"db", "job"}},
		"no expression":           {container.ListOptions{All: true, Filters: arg("name", "web[")}, []string{}},
		"id":                      {container.ListOptions{Filters: arg("id", "d4")}, []string{"db"}},
		"id of nobody":            {container.ListOptions{All: true, Filters: arg("id", "ffff")}, []string{}},
		"id and name":             {container.ListOptions{All: true, Filters: arg("id", "a1", "name", "db")}, []string{}},
		"label":                   {container.ListOptions{All: true, Filters: arg("label", "tier")}, []string{"web2", "db", "web"}},
		"label value":             {container.ListOptions{All: true, Filters: arg("label", "tier=front")}, []string{"web2", "web"}},
		"labels must all be":      {container.ListOptions{All: true, Filters: arg("label", "tier=front", "label", "x")}, []string{"web2"}},
		"empty label value":       {container.ListOptions{All: true, Filters: arg("label", "x=")}, []string{"web2"}},
		"host label":              {container.ListOptions{All: true, Filters: arg("label", "nereid.host=h2")}, []string{"web2"}},
		"node":                    {container.ListOptions{All: true, Filters: arg("node", "h2")}, []string{"web2"}},
		"status implies all":      {container.ListOptions{Filters: arg("status", "exited", "status", "created")}, []string{"job", "web"}},
		"status paused":           {container.ListOptions{Filters: arg("status", "paused")}, []string{"db"}},
		"exited":                  {container.ListOptions{All: true, Filters: arg("exited", "3")}, []string{"job"}},
		"exited another":          {container.ListOptions{All: true, Filters: arg("exited", "0")}, []string{}},
		"before":                  {container.ListOptions{All: true, Filters: arg("before", "job")}, []string{"flaky", "web"}},
		"since":                   {container.ListOptions{All: true, Filters: arg("since", "c300")}, []string{"web2", "db"}},
		"between":                 {container.ListOptions{All: true, Filters: arg("before", "web2", "since", "/web")}, []string{"db", "job", "flaky"}},
		"ancestor":                {container.ListOptions{All: true, Filters: arg("ancestor", "base")}, []string{"web2", "db", "job", "flaky"}},
		"ancestor nobody knows":   {container.ListOptions{All: true, Filters: arg("ancestor", "nothing")}, []string{}},
		"volume by name":          {container.ListOptions{Filters: arg("volume", "data")}, []string{"db"}},
		"volume by place":         {container.ListOptions{Filters: arg("volume", "/cfg")}, []string{"db"}},
		"volume by source":        {container.ListOptions{Filters: arg("volume", "/etc/db")}, []string{"db"}},
		"a named volume's source": {container.ListOptions{Filters: arg("volume", "/x")}, []string{}},
		"network by name":         {container.ListOptions{Filters: arg("network", "blue")}, []string{"web2"}},
		"network by id":           {container.ListOptions{Filters: arg("network", "aa")}, []string{"db"}},
		"health":                  {container.ListOptions{Filters: arg("health", "healthy")}, []string{"web2"}},
		"health none":             {container.ListOptions{Filters: arg("health", "none")}, []string{"db", "flaky"}},
		"no task":                 {container.ListOptions{Filters: arg("is-task", "false")}, []string{"web2", "db", "flaky"}},
		"tasks":                   {container.ListOptions{Filters: arg("is-task", "true")}, []string{}},
		"isolation is one":        {container.ListOptions{Filters: arg("isolation", "default")}, []string{"web2", "db", "flaky"}},
		"whole names":             {container.ListOptions{All: true, Filters: arg("name", "^/web$", "name", "^job$", "name", "^nobody$")}, []string{"job", "web"}},
		"a whole name and others": {container.ListOptions{All: true, Filters: arg("name", "^web$", "name", "2$")}, []string{"web2", "web"}},
		"before, of a label":      {container.ListOptions{All: true, Filters: arg("before", "job", "label", "tier=front")}, []string{"web"}},
		"since, of a network":     {container.ListOptions{All: true, Filters: arg("since", "job", "network", "blue")}, []string{"web2"}},
		"before, without it":      {container.ListOptions{All: true, Filters: arg("before", "job", "name", "^web$")}, []string{}},
		"several networks":        {container.ListOptions{All: true, Filters: arg("network", "bridge", "network", "b1")}, []string{"web2", "db"}},
		"several hosts":           {container.ListOptions{All: true, Filters: arg("node", "h2", "node", "h3")}, []string{"web2"}},
		"another value":           {container.ListOptions{All: true, Filters: arg("label", "tier=no")}, []string{}},
		"another host label":      {container.ListOptions{All: true, Filters: arg("label", "nereid.host=h3")}, []string{}},
		"id and label":            {container.ListOptions{All: true, Filters: arg("id", "a1", "id", "e5", "label", "tier=front")}, []string{"web2", "web"}},
	}
}

type listCase struct {
	opts container.ListOptions
	want []string
}

func TestContainerListFilters(t *testing.T) {
	for name, tc := range listCases() {
		t.Run(name, func(t *testing.T) {
			assert.DeepEqual(t, names(t, tc.opts, nil), tc.want)
		})
	}
}

// TestListsFromIndexes lists the same from a state, where indexes leave most containers out before the filters look.
func TestListsFromIndexes(t *testing.T) {
	rig := newContainerRig(t)
	rig.addImage("base", container.Config{})
	rig.addImage("other", container.Config{Labels: map[string]string{"o": ""}})
	image := func(name string) nereid.ImageID {
		tag, ok := rig.store.View().Tag(nereid.Admin, "docker.io/library/"+name+":latest")
		assert.Assert(t, ok)
		return tag.Image
	}
	derived := &state.Image{Account: nereid.Admin, ID: "sha256:derived", Parent: image("base"), Config: []byte("{}")}
	ops := []state.Op{state.Put(derived)}
	enter := func(a nereid.Account, suffix string) {
		for _, r := range listed() {
			r.Account, r.ID, r.HostConfig = a, r.ID+nereid.ContainerID(suffix), &container.HostConfig{}
			switch r.ImageID {
			case "sha256:base":
				r.ImageID = image("base")
			case "sha256:other":
				r.ImageID = image("other")
			}
			ops = append(ops, state.Create(r), state.Create(&state.Name{Account: a, Name: r.Name, Container: r.ID}))
		}
	}
	enter(nereid.Admin, "")
	enter("stranger", "f") // whose containers are nobody else's
	_, err := rig.store.Commit(rig.ctx, ops...)
	assert.NilError(t, err)
	for name, tc := range listCases() {
		t.Run(name, func(t *testing.T) {
			shown := []string{}
			list, err := rig.List(rig.ctx, tc.opts)
			assert.NilError(t, err)
			for _, s := range list {
				shown = append(shown, strings.TrimPrefix(s.Names[0], "/"))
			}
			assert.DeepEqual(t, shown, tc.want)
		})
	}
}

// TestListJSON compares what is put together from summaries encoded before with an encoding of the list.
func TestListJSON(t *testing.T) {
	rig := newContainerRig(t)
	check := func() {
		t.Helper()
		for range 2 { // encoded now, and kept
			l, err := rig.selectListed(rig.ctx, container.ListOptions{All: true})
			assert.NilError(t, err)
			var got, want strings.Builder
			n, err := listJSON{l}.WriteTo(&got)
			assert.NilError(t, err)
			enc := json.NewEncoder(&want)
			enc.SetEscapeHTML(false)
			assert.NilError(t, enc.Encode(l.summaries()))
			assert.Equal(t, got.String(), want.String())
			assert.Equal(t, n, int64(got.Len()))
		}
	}
	check()
	rig.create("web", func(s *spec) {
		s.Labels = map[string]string{"State": "running", "Status": "", "HostConfig": "{", "a<b": `"Status":"","HostConfig":{`}
		s.host.Annotations = map[string]string{"Status": "", "x": "ä"}
	})
	rig.create("job")
	check()
	assert.NilError(t, rig.Start(rig.ctx, "web"))
	check()
	assert.NilError(t, rig.Rename(rig.ctx, "job", "jobs"))
	check()
	rig.addImage("busybox", container.Config{Cmd: []string{"another"}}) // the name is another image's now
	check()
	assert.NilError(t, rig.Remove(rig.ctx, "web", backend.ContainerRmConfig{ForceRemove: true}))
	check()
}

// TestEncodedSummariesAreBounded: those of containers that are gone are dropped, and what is kept is counted.
func TestEncodedSummariesAreBounded(t *testing.T) {
	rig := newContainerRig(t)
	e, v := &rig.encoded, rig.store.View()
	for i := range 5000 {
		e.keep(v, nereid.ContainerID(fmt.Sprint("gone", i)), &encodedSummary{account: nereid.Admin, json: make([]byte, 100)})
	}
	assert.Assert(t, len(e.kept) <= 1000, "%d kept", len(e.kept))
	assert.Equal(t, e.size, len(e.kept)*(100+encodedOverhead))
	e.keep(v, "large", &encodedSummary{account: nereid.Admin, json: make([]byte, encodedMax)})
	assert.Assert(t, e.kept["large"] == nil)
	assert.Equal(t, e.size, len(e.kept)*(100+encodedOverhead))
}

func TestContainerListFiltersByPort(t *testing.T) {
	ports := func(r *state.Container) []container.Port {
		switch r.Name {
		case "web2":
			return []container.Port{{PrivatePort: 80, PublicPort: 8080, Type: "tcp", IP: "0.0.0.0"}}
		case "db":
			return []container.Port{{PrivatePort: 53, Type: "udp"}}
		}
		return nil
	}
	for filter, want := range map[string][]string{
		"publish=8080":      {"web2"},
		"publish=8080/udp":  {},
		"publish=8000-8100": {"web2"},
		"expose=80/tcp":     {"web2"},
		"expose=53":         {},
		"expose=50-60/udp":  {"db"},
		"publish=53/udp":    {},
	} {
		key, value, _ := strings.Cut(filter, "=")
		assert.Check(t, cmp.DeepEqual(names(t, container.ListOptions{Filters: filters.NewArgs(filters.Arg(key, value))}, ports), want), filter)
	}
}

func TestContainerListFilterErrors(t *testing.T) {
	for filter, want := range map[string]string{
		"nothing=x":     "invalid filter 'nothing'",
		"exited=x":      `invalid filter 'exited=x': strconv.Atoi: parsing "x": invalid syntax`,
		"status=x":      "invalid filter 'status=x': invalid value for state (x): must be one of created, running, paused, restarting, removing, exited, dead",
		"health=x":      "invalid filter 'health=x': invalid value for health (x): must be one of none, starting, healthy, unhealthy",
		"is-task=maybe": "invalid filter 'is-task=[maybe]'",
		"before=nobody": "No such container: nobody",
		"since=nobody":  "No such container: nobody",
		"publish=1:2":   "filter for 'publish' should not contain ':': 1:2",
		"expose=x":      "error while looking up for expose x: ",
		"expose=9-8":    "error while looking up for expose 9-8: ",
	} {
		key, value, _ := strings.Cut(filter, "=")
		_, err := newListFilter(container.ListOptions{Filters: filters.NewArgs(filters.Arg(key, value))}, lookup{listed()})
		assert.Check(t, err != nil, filter)
		assert.Check(t, strings.HasPrefix(err.Error(), want), "%s: %v", filter, err)
		switch key {
		case "before", "since":
			assert.Check(t, errdefs.IsNotFound(err), filter)
		case "publish", "expose":
		default:
			assert.Check(t, errdefs.IsInvalidArgument(err), filter)
		}
	}
}

func TestStatusText(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	for want, s := range map[string]state.RunState{
		"Created":                         {Status: state.StatusCreated},
		"Up 3 minutes":                    {Status: state.StatusRunning, StartedAt: ago(3 * time.Minute)},
		"Up Less than a second":           {Status: state.StatusRunning, StartedAt: ago(time.Millisecond)},
		"Up 3 minutes (healthy)":          {Status: state.StatusRunning, StartedAt: ago(3 * time.Minute), Health: &container.Health{Status: container.Healthy}},
		"Up 3 minutes (health: starting)": {Status: state.StatusRunning, StartedAt: ago(3 * time.Minute), Health: &container.Health{Status: container.Starting}},
		"Up 3 minutes (unhealthy)":        {Status: state.StatusRunning, StartedAt: ago(3 * time.Minute), Health: &container.Health{}},
		"Up 2 minutes (Paused)":           {Status: state.StatusPaused, StartedAt: ago(2 * time.Minute), Health: &container.Health{Status: container.Healthy}},
		"Restarting (1) 5 seconds ago":    {Status: state.StatusRestarting, ExitCode: 1, StartedAt: ago(time.Hour), FinishedAt: ago(5 * time.Second)},
		"Exited (0) 2 hours ago":          {Status: state.StatusExited, StartedAt: ago(3 * time.Hour), FinishedAt: ago(2 * time.Hour)},
		"Exited (137) About a minute ago": {Status: state.StatusExited, ExitCode: 137, StartedAt: ago(time.Hour), FinishedAt: ago(time.Minute)},
		"Removal In Progress":             {Status: state.StatusRemoving},
		"Dead":                            {Status: state.StatusDead},
		"Up 2 weeks":                      {Status: state.StatusRunning, StartedAt: ago(15 * 24 * time.Hour)},
	} {
		assert.Check(t, cmp.Equal(statusText(&state.Container{State: s}, now), want))
	}
}

func TestCommandText(t *testing.T) {
	for want, cmdline := range map[string][]string{
		"sh":                {"sh"},
		"sh -c 'echo a  b'": {"sh", "-c", "echo a  b"},
		"/my app x":         {"/my app", "x"}, // the path itself is not quoted, in Docker neither
		"echo it's":         {"echo", "it's"},
	} {
		assert.Check(t, cmp.Equal(commandText(cmdline[0], cmdline[1:]), want))
	}
}

func TestPortList(t *testing.T) {
	nets := &container.NetworkSettings{}
	nets.Ports = nat.PortMap{
		"443/tcp": {{HostIP: "::", HostPort: "8443"}, {HostIP: "0.0.0.0", HostPort: "8443"}},
		"80/tcp":  nil,
		"53/udp":  {{HostIP: "127.0.0.1", HostPort: "5353"}, {HostIP: "127.0.0.1", HostPort: "garbage"}},
	}
	assert.DeepEqual(t, portList(nets), []container.Port{
		{PrivatePort: 53, PublicPort: 5353, Type: "udp", IP: "127.0.0.1"},
		{PrivatePort: 80, Type: "tcp"},
		{PrivatePort: 443, PublicPort: 8443, Type: "tcp", IP: "0.0.0.0"},
		{PrivatePort: 443, PublicPort: 8443, Type: "tcp", IP: "::"},
	})
	assert.DeepEqual(t, portList(nil), []container.Port{})
}

func TestSummaryLeavesTheRecordAlone(t *testing.T) {
	r := listed()[0]
	r.HostConfig = &container.HostConfig{NetworkMode: "blue", Annotations: map[string]string{"a": "b"}}
	nets := &container.NetworkSettings{Networks: map[string]*network.EndpointSettings{
		"blue": {IPAddress: "10.0.0.2", Aliases: []string{"hidden"}, IPAMConfig: &network.EndpointIPAMConfig{IPv4Address: "10.0.0.2", LinkLocalIPs: []string{"x"}}},
	}}
	s := summary(r, "web:1", "Up", nets)
	assert.DeepEqual(t, s.Names, []string{"/web2"})
	assert.DeepEqual(t, s.NetworkSettings.Networks["blue"], &network.EndpointSettings{
		IPAddress: "10.0.0.2", IPAMConfig: &network.EndpointIPAMConfig{IPv4Address: "10.0.0.2"},
	})
	assert.Assert(t, s.Mounts != nil && s.Ports != nil)
	s.Labels["tier"], s.HostConfig.Annotations["a"] = "changed", "changed"
	s.NetworkSettings.Networks["blue"].IPAMConfig.IPv4Address = "changed"
	assert.Equal(t, r.Config.Labels["tier"], "front")
	assert.Equal(t, r.HostConfig.Annotations["a"], "b")
	assert.Equal(t, nets.Networks["blue"].IPAMConfig.IPv4Address, "10.0.0.2")
}

func FuzzListFilter(f *testing.F) {
	for _, s := range []string{"name\x00web", "publish\x0080-90/tcp", "status\x00running", "exited\x00-1", "before\x00web", "label\x00a=b", "expose\x000-65535/udp"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		key, value, _ := strings.Cut(s, "\x00")
		all := listed()
		flt, err := newListFilter(container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg(key, value))}, lookup{all})
		if err != nil {
			if errors.Is(err, errdefs.ErrInternal) {
				t.Fatalf("the fault is the client's: %v", err)
			}
			return
		}
		shown := 0
		for _, r := range slices.Concat(all, all) {
			d := flt.decide(r, func(*state.Container) []container.Port {
				return []container.Port{{PrivatePort: 1, PublicPort: 2, Type: "tcp"}}
			})
			if d == stop {
				break
			}
			if d == show {
				shown++
			}
		}
		if shown != flt.shown {
			t.Fatal(fmt.Sprint(shown, flt.shown))
		}
	})
}
