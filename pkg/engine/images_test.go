package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/pkg/jsonmessage"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"go.uber.org/zap/zaptest"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/pkg/image"
	"github.com/nereid-paas/nereid/pkg/image/imagetest"
	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"

	containerd "github.com/containerd/containerd/v2/client"
)

// imageRig is a host with a catalogue, its content and a registry.
type imageRig struct {
	*Images
	ctx        context.Context
	containerd *imagetest.Containerd
	content    *image.Store
}

func newImageRig(t *testing.T) *imageRig {
	t.Helper()
	c := imagetest.NewContainerd(t)
	content := image.New(image.Config{
		Client:     func() *containerd.Client { return c.Client },
		RetryDelay: 1, // nanosecond: the counting is tested, not the waiting
		Version:    "0.test",
	})
	ctx := nereid.WithAccount(context.Background(), nereid.Admin)
	return &imageRig{
		Images: NewImages(Deps{Host: "h1", State: openTestState(t), Log: zaptest.NewLogger(t)}, content),
		ctx:    ctx, containerd: c, content: content,
	}
}

// as is the same host for another account: tests that share it are apart.
func (r *imageRig) as(a nereid.Account) *imageRig {
	other := *r
	other.ctx = nereid.WithAccount(r.ctx, a)
	return &other
}

func (r *imageRig) account() nereid.Account { return nereid.AccountFrom(r.ctx) }

func openTestState(t *testing.T) *state.Store {
	t.Helper()
	s, err := state.Open(context.Background(), state.Config{Dir: filepath.Join(imagetest.Dir(t), "etcd"), Host: "h1"})
	assert.NilError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		assert.Check(t, <-done)
		assert.Check(t, s.Close())
	})
	return s
}

// put makes the image of a name known without a registry, as load does.
func (r *imageRig) put(t *testing.T, img v1.Image, names ...string) nereid.ImageID {
	t.Helper()
	if len(names) == 0 {
		names = []string{"nameless:x"}
		defer func() {
			tag := &state.Tag{Account: r.account(), Ref: "docker.io/library/nameless:x"}
			_, err := r.State.Commit(r.ctx, state.Delete(tag))
			assert.NilError(t, err)
		}()
	}
	all := map[string]v1.Image{}
	for _, n := range names {
		all[n] = img
	}
	var out bytes.Buffer
	assert.NilError(t, r.Load(r.ctx, bytes.NewReader(imagetest.DockerArchive(t, all)), nil, true, &out))
	assert.Check(t, !strings.Contains(out.String(), "error"), out.String())
	id, err := img.ConfigName()
	assert.NilError(t, err)
	return nereid.ImageID(id.String())
}

// use makes a container of an image, in a state.
func (r *imageRig) use(t *testing.T, id nereid.ImageID, status string) *state.Container {
	t.Helper()
	c := &state.Container{
		Account: r.account(), ID: nereid.NewContainerID(), Host: "h1", ImageID: id, Created: time.Now(),
		State: state.RunState{Status: status}, Config: &container.Config{}, HostConfig: &container.HostConfig{},
	}
	_, err := r.State.Commit(r.ctx, state.Create(c))
	assert.NilError(t, err)
	return c
}

// told are the events since a revision, as "action id name", ids cut to what a test can tell apart.
func (r *imageRig) told(t *testing.T, since state.Revision) []events.Message {
	t.Helper()
	var list []events.Message
	for _, e := range r.State.View().Events(since, 0).Ready() {
		list = append(list, e.Message)
	}
	return list
}

func (r *imageRig) actions(t *testing.T, since state.Revision) []string {
	t.Helper()
	var list []string
	for _, m := range r.told(t, since) {
		list = append(list, string(m.Action))
	}
	return list
}

func (r *imageRig) now() state.Revision { return r.State.View().Revision() }

// statuses are the lines of a stream, progress left out.
func statuses(t *testing.T, out *bytes.Buffer) []string {
	t.Helper()
	var list []string
	for dec := json.NewDecoder(out); dec.More(); {
		var m jsonmessage.JSONMessage
		assert.NilError(t, dec.Decode(&m))
		switch {
		case m.Error != nil:
			list = append(list, "error: "+m.Error.Message)
		case m.Stream != "":
			list = append(list, strings.TrimSuffix(m.Stream, "\n"))
		case m.Progress == nil:
			list = append(list, m.Status)
		}
	}
	return list
}

func oneFile(t *testing.T, created int64, content string, change ...func(*v1.ConfigFile)) v1.Image {
	t.Helper()
	var f func(*v1.ConfigFile)
	if len(change) > 0 {
		f = change[0]
	}
	return imagetest.Image(t, created, f, [2]string{"f", content})
}

func (r *imageRig) namespaced() context.Context {
	return namespaces.WithNamespace(r.ctx, string(r.account()))
}
