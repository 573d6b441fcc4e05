package state_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/google/go-cmp/cmp/cmpopts"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

func TestFindContainer(t *testing.T) {
	v := state.NewView()
	abc, abd := newContainer(id("abc"), "web"), newContainer(id("abd"), "abc")
	// Its name is the full id of another.
	named := newContainer(id("eee"), string(abc.ID))
	theirs := newContainer(id("fff"), "theirs")
	theirs.Account = "other"
	linking := newContainer(id("bbb"), "linking")
	linking.HostConfig = &container.HostConfig{NetworkMode: "bridge", Links: []string{"/abc:/linking/front", "gone"}}
	v.Show(1, abc, abd, named, theirs, linking, nameOf(linking), nameOf(abc), nameOf(abd), nameOf(named), nameOf(theirs))

	for _, tc := range []struct {
		ref   string
		want  *state.Container
		class error
		text  string
	}{
		{ref: string(abc.ID), want: abc},
		{ref: "web", want: abc},
		{ref: "/web", want: abc},
		{ref: "abc", want: abd}, // a name goes before an id prefix
		{ref: "abd", want: abd},
		{ref: "linking/front", want: abd},
		{ref: "/linking/front", want: abd},
		{ref: "linking/gone", class: errdefs.ErrNotFound, text: "No such container: gone"},
		{ref: "linking/abc", class: errdefs.ErrNotFound, text: "No such container: linking/abc"},
		{ref: "web/front", class: errdefs.ErrNotFound, text: "No such container: web/front"},
		{ref: "nosuch/front", class: errdefs.ErrNotFound, text: "No such container: nosuch/front"},
		{ref: "e", want: named},
		{ref: "ab", class: errdefs.ErrInvalidArgument, text: "multiple IDs found with provided prefix: ab"},
		{ref: "we", class: errdefs.ErrNotFound, text: "No such container: we"},
		{ref: "theirs", class: errdefs.ErrNotFound, text: "No such container: theirs"},
		{ref: "fff", class: errdefs.ErrNotFound, text: "No such container: fff"},
		{ref: "/abd", class: errdefs.ErrNotFound, text: "No such container: /abd"},
		{ref: "", class: errdefs.ErrInvalidArgument, text: `invalid name or ID supplied: ""`},
	} {
		t.Run(tc.ref, func(t *testing.T) {
			got, err := v.FindContainer(nereid.Admin, tc.ref)
			if tc.class != nil {
				assert.ErrorIs(t, err, tc.class)
				assert.Error(t, err, tc.text)
				return
			}
			assert.NilError(t, err)
			assert.Equal(t, got.ID, tc.want.ID)
		})
	}
}

func TestFindNetwork(t *testing.T) {
	v := state.NewView()
	network := func(id, name string) *state.Network {
		n := &state.Network{Account: nereid.Admin, ID: nereid.NetworkID(id), Name: name}
		v.Show(v.Revision()+1, n, &state.NetworkName{Account: nereid.Admin, Name: name, Network: n.ID})
		return n
	}
	a1, a2, a3 := network("a1", "web"), network("a2", "a"), network("a33", "db")
	for _, tc := range []struct {
		ref   string
		want  *state.Network
		class error
		text  string
	}{
		{ref: "a1", want: a1},
		{ref: "web", want: a1},
		{ref: "a", want: a2},
		{ref: "a3", want: a3},
		{ref: "", class: errdefs.ErrInvalidArgument, text: "network  is ambiguous (3 matches found based on ID prefix)"},
		{ref: "x", class: errdefs.ErrNotFound, text: "network x not found"},
	} {
		t.Run(tc.ref, func(t *testing.T) {
			got, err := v.FindNetwork(nereid.Admin, tc.ref)
			if tc.class != nil {
				assert.ErrorIs(t, err, tc.class)
				assert.Error(t, err, tc.text)
				return
			}
			assert.NilError(t, err)
			assert.Equal(t, got.ID, tc.want.ID)
		})
	}
}

func TestImagesByPrefix(t *testing.T) {
	v := state.NewView()
	for i, id := range []nereid.ImageID{"sha256:aa1", "sha256:aa2", "sha256:ab"} {
		v.Show(state.Revision(i+1), &state.Image{Account: nereid.Admin, ID: id})
	}
	assert.Equal(t, len(v.ImagesByPrefix(nereid.Admin, "a")), 2)
	assert.Equal(t, len(v.ImagesByPrefix(nereid.Admin, "b")), 0)
	assert.Equal(t, len(v.ImagesOfTarget(nereid.Admin, "")), 3)
	one := v.ImagesByPrefix(nereid.Admin, "sha256:ab")
	assert.Equal(t, len(one), 1)
	assert.Equal(t, one[0].ID, nereid.ImageID("sha256:ab"))
}

func ids(cs []*state.Container) (out []nereid.ContainerID) {
	for _, c := range cs {
		out = append(out, c.ID)
	}
	return out
}

func TestListsFollowChanges(t *testing.T) {
	v := state.NewView()
	made := func(id nereid.ContainerID, after time.Duration) *state.Container {
		c := newContainer(id, string(id))
		c.Created = epoch.Add(after)
		c.Networks = map[string]*state.Endpoint{"n": {Network: "n1"}}
		c.Mounts = []state.Mount{{Type: "volume", Name: "data"}, {Type: "bind", Source: "/"}}
		c.Config = &container.Config{Labels: map[string]string{"tier": "back", "id": string(id)}}
		return c
	}
	old, young := made(id("b"), 0), made(id("a"), time.Second)
	away := made(id("c"), time.Minute)
	away.Host, away.Account = "h2", "other"
	v.Show(1, young, old, away)

	assert.DeepEqual(t, ids(v.Containers(nereid.Admin)), []nereid.ContainerID{young.ID, old.ID})
	assert.DeepEqual(t, ids(v.ContainersOn(testHost)), []nereid.ContainerID{young.ID, old.ID})
	assert.DeepEqual(t, ids(v.ContainersOn("h2")), []nereid.ContainerID{away.ID})
	assert.DeepEqual(t, ids(v.ContainersOnNetwork("n1")), []nereid.ContainerID{away.ID, young.ID, old.ID})
	assert.DeepEqual(t, ids(v.ContainersOfNetwork(nereid.Admin, "n")), []nereid.ContainerID{young.ID, old.ID, young.ID, old.ID}) // by name and by id
	assert.DeepEqual(t, ids(v.ContainersOfNetwork("other", "n1")), []nereid.ContainerID{away.ID})
	assert.DeepEqual(t, ids(v.ContainersLabelled(nereid.Admin, "tier", "back")), []nereid.ContainerID{young.ID, old.ID})
	assert.DeepEqual(t, ids(v.ContainersLabelled(nereid.Admin, "id", string(old.ID))), []nereid.ContainerID{old.ID})
	assert.DeepEqual(t, ids(v.VolumeUsers(nereid.Admin, "data")), []nereid.ContainerID{young.ID, old.ID})
	assert.DeepEqual(t, ids(v.ImageUsers(nereid.Admin, "sha256:abc")), []nereid.ContainerID{young.ID, old.ID})

	left := old.Clone()
	left.Networks = map[string]*state.Endpoint{"m": {Network: "n2"}}
	left.Mounts, left.ImageID = nil, "sha256:def"
	left.Config = &container.Config{Labels: map[string]string{"tier": "front", "id": string(old.ID)}}
	v.Show(2, left)
	v.Drop(3, away)
	assert.DeepEqual(t, ids(v.ContainersOnNetwork("n1")), []nereid.ContainerID{young.ID})
	assert.DeepEqual(t, ids(v.ContainersOnNetwork("n2")), []nereid.ContainerID{old.ID})
	assert.DeepEqual(t, ids(v.ContainersOfNetwork(nereid.Admin, "m")), []nereid.ContainerID{old.ID})
	assert.DeepEqual(t, ids(v.ContainersLabelled(nereid.Admin, "tier", "back")), []nereid.ContainerID{young.ID})
	assert.DeepEqual(t, v.ContainersLabelled(nereid.Admin, "id", string(old.ID)), []*state.Container{left}, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}))
	assert.DeepEqual(t, ids(v.ContainersLabelled(nereid.Admin, "tier", "front")), []nereid.ContainerID{old.ID})
	assert.DeepEqual(t, ids(v.VolumeUsers(nereid.Admin, "data")), []nereid.ContainerID{young.ID})
	assert.DeepEqual(t, ids(v.ImageUsers(nereid.Admin, "sha256:abc")), []nereid.ContainerID{young.ID})
	assert.Equal(t, v.Containers(nereid.Admin)[1], left)
	assert.Equal(t, len(v.ContainersOn("h2"))+len(v.Containers("other")), 0)

	list := v.Containers(nereid.Admin)
	list[0] = nil
	assert.Assert(t, v.Containers(nereid.Admin)[0] != nil, "the view's own slice was given out")
}

// TestEveryKind stores one record of each kind in etcd and finds it again by each way there is, before and after a
// restart, and nowhere once deleted.
func TestEveryKind(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	s, stop := run(t, cfg)
	net := nereid.NetworkID("n1")
	addr := netip.MustParseAddr("10.0.0.2")
	image := nereid.ImageID("sha256:1")
	c := newContainer(id("a"), "web")
	c.Networks = map[string]*state.Endpoint{"bridge": {Network: net, Address: netip.PrefixFrom(addr, 24), Aliases: []string{"x"}}}
	records := []state.Record{
		c, nameOf(c),
		&state.Account{Name: nereid.Admin, Created: epoch},
		&state.Host{Name: testHost, Labels: map[string]string{"rack": "1"}},
		&state.Network{Account: nereid.Admin, ID: net, Name: "bridge", Subnets: []state.Subnet{{Prefix: netip.MustParsePrefix("10.0.0.0/24")}}},
		&state.NetworkName{Account: nereid.Admin, Name: "bridge", Network: net},
		&state.Address{Network: net, Address: addr, Account: nereid.Admin, Container: c.ID, Host: testHost},
		&state.Port{Proto: "tcp", Port: 80, Claims: []state.PortClaim{{HostIP: netip.IPv4Unspecified(), Container: c.ID}}},
		&state.Volume{Account: nereid.Admin, Name: "data", Home: testHost},
		&state.Image{Account: nereid.Admin, ID: image, Config: []byte(`{"a":"b"}`)},
		&state.Tag{Account: nereid.Admin, Ref: "docker.io/library/busybox:latest", Image: image},
	}
	find := func(v *state.View) (out []state.Record) {
		add := func(r state.Record, ok bool) {
			if ok {
				out = append(out, r)
			}
		}
		add(one(v.Container(nereid.Admin, c.ID)))
		add(one(v.Name(nereid.Admin, "web")))
		add(first(v.Accounts()))
		add(one(v.Host(testHost)))
		add(one(v.Network(nereid.Admin, net)))
		n, err := v.FindNetwork(nereid.Admin, "bridge")
		if err == nil {
			out = append(out, &state.NetworkName{Meta: n.Meta, Account: n.Account, Name: n.Name, Network: n.ID})
		}
		add(one(v.Address(net, "10.0.0.2")))
		add(one(v.Port("tcp", 80)))
		add(one(v.Volume(nereid.Admin, "data")))
		add(one(v.Image(nereid.Admin, image)))
		add(one(v.Tag(nereid.Admin, "docker.io/library/busybox:latest")))
		return out
	}
	lists := func(v *state.View) []int {
		return []int{
			len(v.Containers(nereid.Admin)), len(v.ContainersOn(testHost)), len(v.ContainersOnNetwork(net)),
			len(v.Networks(nereid.Admin)), len(v.AllNetworks()), len(v.Addresses(net)), len(v.Ports()),
			len(v.Volumes(nereid.Admin)), len(v.Images(nereid.Admin)), len(v.Tags(nereid.Admin)),
			len(v.TagsOf(nereid.Admin, image)), len(v.Accounts()), len(v.Hosts()),
		}
	}
	var put, remove []state.Op
	for _, r := range records {
		put, remove = append(put, state.Create(r)), append(remove, state.Delete(r))
	}
	commit(t, s, put...)
	for _, when := range []string{"at once", "after a restart"} {
		assert.DeepEqual(t, find(s.View()), records, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}))
		assert.DeepEqual(t, lists(s.View()), slices.Repeat([]int{1}, 13))
		if when == "at once" {
			stop()
			s, _ = run(t, cfg)
		}
	}
	commit(t, s, remove...)
	assert.Equal(t, len(find(s.View())), 0)
	assert.DeepEqual(t, lists(s.View()), slices.Repeat([]int{0}, 13))
	assert.Equal(t, countKeys(t, s, state.Root), int64(0))
}

func one[R state.Record](r R, ok bool) (state.Record, bool) { return r, ok }

func first[R state.Record](list []R) (state.Record, bool) {
	if len(list) == 0 {
		return nil, false
	}
	return list[0], true
}

// TestOrderedAgainstAPlainSlice drives a view with random changes and compares its order with a sort.
func TestOrderedAgainstAPlainSlice(t *testing.T) {
	v := state.NewView()
	random := rand.New(rand.NewPCG(1, 2))
	live := map[nereid.ContainerID]*state.Container{}
	for rev := state.Revision(1); rev < 8000; rev++ {
		c := newContainer(numbered(random.IntN(3000)), "x")
		if old := live[c.ID]; old != nil && random.IntN(3) == 0 {
			v.Drop(rev, old)
			delete(live, c.ID)
			continue
		}
		c.Created = epoch.Add(time.Duration(random.IntN(100)) * time.Second)
		if old := live[c.ID]; old != nil {
			c.Created = old.Created
		}
		v.Show(rev, c)
		live[c.ID] = c
	}
	want := make([]*state.Container, 0, len(live))
	for _, c := range live {
		want = append(want, c)
	}
	slices.SortFunc(want, func(a, b *state.Container) int {
		if d := b.Created.Compare(a.Created); d != 0 {
			return d
		}
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	assert.Assert(t, slices.Equal(v.Containers(nereid.Admin), want))
	for _, c := range want {
		got, err := v.FindContainer(nereid.Admin, string(c.ID[:63]))
		if err == nil {
			assert.Equal(t, got, c)
		} else {
			assert.ErrorIs(t, err, errdefs.ErrInvalidArgument)
		}
	}
}

// fill makes a view of n containers with random ids, oldest first as they come in life.
func fill(n int) (*state.View, []*state.Container) {
	v := state.NewView()
	all := make([]*state.Container, n)
	for i := range all {
		c := newContainer(nereid.NewContainerID(), fmt.Sprint("web", i))
		c.Created = epoch.Add(time.Duration(i) * time.Second)
		c.Host = nereid.Host(fmt.Sprint("h", i%100))
		all[i] = c
		v.Show(state.Revision(i+1), c, nameOf(c))
	}
	return v, all
}

func BenchmarkViewList50k(b *testing.B) {
	v, all := fill(50_000)
	b.ReportAllocs()
	for b.Loop() {
		if got := v.Containers(nereid.Admin); len(got) != len(all) || got[0] != all[len(all)-1] {
			b.Fatal("wrong list")
		}
	}
}

func BenchmarkViewListOfHost50k(b *testing.B) {
	v, _ := fill(50_000)
	b.ReportAllocs()
	for b.Loop() {
		if got := v.ContainersOn("h7"); len(got) != 500 {
			b.Fatal(len(got))
		}
	}
}

func BenchmarkFindPrefix(b *testing.B) {
	v, all := fill(50_000)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		want := all[i%len(all)]
		if got, err := v.FindContainer(nereid.Admin, string(want.ID[:12])); err != nil || got != want {
			b.Fatal(err)
		}
	}
}

func BenchmarkFindName(b *testing.B) {
	v, all := fill(50_000)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		want := all[i%len(all)]
		if got, err := v.FindContainer(nereid.Admin, want.Name); err != nil || got != want {
			b.Fatal(err)
		}
	}
}

func BenchmarkViewChange50k(b *testing.B) {
	v, all := fill(50_000)
	rev := v.Revision()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		rev++
		v.Show(rev, all[i%len(all)].Clone())
	}
}

// TestContainerChangesItsHost moves a container in one transaction, which is a new key for the same identity.
func TestContainerChangesItsHost(t *testing.T) {
	t.Parallel()
	s, _ := run(t, testConfig(t))
	here := newContainer(id("a"), "web")
	here.Account = "a/b"
	commit(t, s, state.Create(here))
	moved := here.Clone()
	moved.Host = "h2"
	waited := make(chan *state.Container, 1)
	checked := make(chan struct{}, 1)
	go func() {
		c, err := s.View().WaitContainer(testContext(t), here.Account, here.ID, func(c *state.Container) bool {
			checked <- struct{}{}
			return c == nil || c.Host != testHost
		})
		assert.Check(t, err)
		waited <- c
	}()
	<-checked
	commit(t, s, state.Create(moved), state.Delete(here))
	got, ok := s.View().Container(here.Account, here.ID)
	assert.Assert(t, ok)
	assert.Equal(t, got.Host, nereid.Host("h2"))
	assert.DeepEqual(t, ids(s.View().Containers(here.Account)), []nereid.ContainerID{here.ID})
	assert.Equal(t, len(s.View().ContainersOn(testHost)), 0)
	assert.Equal(t, <-waited, got)
}
