package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
	"github.com/nereid-paas/nereid/runtime"
)

// List answers from the view which of the account's containers pass the options, newest first. The summaries are the
// caller's. Without a wish for sizes it asks nobody.
func (c *Containers) List(ctx context.Context, opts container.ListOptions) ([]*container.Summary, error) {
	l, err := c.selectListed(ctx, opts)
	if err != nil {
		return nil, err
	}
	list := l.summaries()
	if opts.Size {
		return list, c.addSizes(ctx, l.account, list)
	}
	return list, nil
}

// selectListed selects what a list shows.
func (c *Containers) selectListed(ctx context.Context, opts container.ListOptions) (*containerList, error) {
	view := c.State.View()
	l := &containerList{
		c: c, view: view, account: nereid.AccountFrom(ctx), now: time.Now(), fleet: manyHosts(view), shownAs: map[string]nereid.ImageID{},
	}
	l.links = linkNames(view, l.account)
	f, err := newListFilter(opts, l)
	if err != nil {
		return nil, err
	}
	ports := func(r *state.Container) []container.Port { return portList(c.networks.Settings(r)) }
	candidates, release := l.candidates(f)
	defer release()
	for _, r := range candidates {
		d := f.decide(r, ports)
		if d == stop {
			break
		}
		if d == show {
			l.shown = append(l.shown, r)
		}
	}
	return l, nil
}

// sizesAtOnce bounds how many root file systems are measured at a time: it is disk work.
const sizesAtOnce = 4

func (c *Containers) addSizes(ctx context.Context, a nereid.Account, list []*container.Summary) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(sizesAtOnce)
	for _, s := range list {
		group.Go(func() (err error) {
			key := runtime.Key{Account: a, ID: nereid.ContainerID(s.ID)}
			if r, ok := c.State.View().Container(a, key.ID); ok && c.elsewhere(r.Host) {
				if s.SizeRw, s.SizeRootFs, err = c.sizeOn(ctx, r.Host, r.ID); errdefs.IsUnavailable(err) || errdefs.IsNotFound(err) {
					return nil // nobody knows now, or it is removed
				}
				return err
			}
			s.SizeRw, s.SizeRootFs, err = c.size(ctx, key)
			if errdefs.IsNotFound(err) {
				return nil // removed since the list was made
			}
			return err
		})
	}
	return group.Wait()
}

// containerList is what one list looks up, and what it shows.
type containerList struct {
	c       *Containers
	view    *state.View
	account nereid.Account
	now     time.Time
	fleet   bool                            // it tells on which host a container is
	shownAs map[string]nereid.ImageID       // what references mean now; empty: nothing
	links   map[nereid.ContainerID][]string // names by the links of others
	shown   []*state.Container              // newest first
}

func (l *containerList) summaries() []*container.Summary {
	list := make([]*container.Summary, 0, len(l.shown))
	for _, r := range l.shown {
		list = append(list, l.summary(r, l.imageName(r), l.c.Fleet.hostedStatus(r, l.now)))
	}
	return list
}

func (l *containerList) summary(r *state.Container, image, status string) *container.Summary {
	s := summary(r, image, status, l.c.networks.Settings(r))
	s.Names = append(s.Names, l.links[r.ID]...)
	slices.Sort(s.Names)
	if l.fleet {
		s.Labels[hostLabel] = string(r.Host)
	}
	return s
}

// imageName is what a list calls a container's image: as the user did, unless that means another image by now, or none.
func (l *containerList) imageName(r *state.Container) string {
	if r.Image == string(r.ImageID) {
		return r.Image
	}
	id, ok := l.shownAs[r.Image]
	if !ok {
		if img, err := findImage(l.view, l.account, r.Image); err == nil {
			id = img.ID
		}
		l.shownAs[r.Image] = id
	}
	if id != r.ImageID {
		return string(r.ImageID)
	}
	return r.Image
}

func (l *containerList) byPrefix(prefix string) (nereid.ContainerID, bool) {
	if prefix == "" {
		return "", false
	}
	found := l.view.ContainersByPrefix(l.account, prefix, 2)
	if len(found) != 1 {
		return "", false
	}
	return found[0].ID, true
}

func (l *containerList) byIDOrName(ref string) (nereid.ContainerID, error) {
	if r, ok := l.view.Container(l.account, nereid.ContainerID(ref)); ok {
		return r.ID, nil
	}
	if n, ok := l.view.Name(l.account, strings.TrimPrefix(ref, "/")); ok {
		return n.Container, nil
	}
	return "", errdefs.ErrNotFound.WithMessage(fmt.Sprintf("No such container: %s", ref))
}

func (l *containerList) descendants(ref string) []nereid.ImageID {
	ancestor, err := findImage(l.view, l.account, ref)
	if err != nil {
		return nil
	}
	ids := []nereid.ImageID{ancestor.ID}
	base := diffIDs(ancestor)
	for _, img := range l.view.Images(l.account) {
		layers := diffIDs(img)
		built := len(base) > 0 && len(layers) > len(base) && slices.Equal(layers[:len(base)], base)
		if img.ID != ancestor.ID && (built || l.committedFrom(img, ancestor.ID)) {
			ids = append(ids, img.ID)
		}
	}
	return ids
}

// committedFrom tells whether an image was made by commits that began with another.
func (l *containerList) committedFrom(img *state.Image, from nereid.ImageID) bool {
	for seen := map[nereid.ImageID]bool{}; img.Parent != "" && !seen[img.ID]; {
		if img.Parent == from {
			return true
		}
		seen[img.ID] = true
		parent, ok := l.view.Image(l.account, img.Parent)
		if !ok {
			return false
		}
		img = parent
	}
	return false
}

// diffIDs are an image's layers, unpacked; none where its configuration cannot be read.
func diffIDs(img *state.Image) []digest.Digest {
	var cfg struct {
		RootFS struct {
			DiffIDs []digest.Digest `json:"diff_ids"`
		} `json:"rootfs"`
	}
	if err := json.Unmarshal(img.Config, &cfg); err != nil {
		return nil
	}
	return cfg.RootFS.DiffIDs
}

// size of a container of this host: of its writable layer, and with its image, as the list of images has that.
func (c *Containers) size(ctx context.Context, key runtime.Key) (rw, total int64, err error) {
	rw, total, err = c.Runtime.Size(ctx, key)
	if err != nil {
		return 0, 0, err
	}
	if r, ok := c.State.View().Container(key.Account, key.ID); ok {
		if img, ok := c.State.View().Image(key.Account, r.ImageID); ok {
			total = rw + img.Size
		}
	}
	return rw, total, nil
}
