package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/events"
	imagetypes "github.com/docker/docker/api/types/image"
	"github.com/opencontainers/go-digest"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// Remove takes a name from an image, or, by id or with its last name, the image itself. Running containers' images
// and images others were made from stay whatever; stopped containers' and many-named ones go by force only. It
// answers what was untagged and deleted, layers that no other image has among them.
func (i *Images) Remove(ctx context.Context, ref string, opts imagetypes.RemoveOptions) ([]imagetypes.DeleteResponse, error) {
	if len(opts.Platforms) > 1 {
		return nil, errdefs.ErrInvalidArgument.WithMessage("multiple platforms are not supported")
	}
	answers, err := i.remove(ctx, ref, opts)
	if slices.ContainsFunc(answers, func(d imagetypes.DeleteResponse) bool { return d.Deleted != "" }) {
		i.collect(ctx)
	}
	return answers, err
}

func (i *Images) remove(ctx context.Context, ref string, opts imagetypes.RemoveOptions) ([]imagetypes.DeleteResponse, error) {
	unlock, err := i.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return i.removeLocked(ctx, ref, opts)
}

func (i *Images) removeLocked(ctx context.Context, ref string, opts imagetypes.RemoveOptions) ([]imagetypes.DeleteResponse, error) {
	a := nereid.AccountFrom(ctx)
	var err error
	for range commitTries {
		if img, err := i.onePlatform(a, ref, opts); err != nil {
			return nil, err
		} else if img != nil {
			answers, err := i.removePlatform(ctx, img, opts.Force)
			if errdefs.IsAborted(err) {
				continue
			}
			return answers, err
		}
		var r *removal
		if r, err = i.planRemoval(a, ref, opts); err != nil {
			return nil, err
		}
		if err = i.carryOut(ctx, r); errdefs.IsAborted(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if r.deleted {
			r.answers = append(r.answers, i.removeBeside(ctx, r.beside)...)
		}
		if r.deleted && opts.PruneChildren {
			r.answers = append(r.answers, i.removeParents(ctx, a, r.img.Parent)...)
		}
		return r.answers, nil
	}
	return nil, err
}

// onePlatform is the image to remove alone when a platform is given and others of the same index are here; nil: the
// image is to be removed as any other.
func (i *Images) onePlatform(a nereid.Account, ref string, opts imagetypes.RemoveOptions) (*state.Image, error) {
	if len(opts.Platforms) == 0 {
		return nil, nil
	}
	asked := opts.Platforms[0]
	img, err := i.find(a, ref, &asked)
	if err != nil {
		return nil, err
	}
	has, err := i.Platform(img)
	if err == nil && !platforms.OnlyStrict(asked).Match(has) { // one that would do to be run is not meant
		err = wrongPlatform(ref, has, asked)
	}
	if err != nil || len(beside(i.State.View(), img)) == 0 {
		return nil, err
	}
	return img, nil
}

// removal is what is to be taken out of the catalogue, in one transaction.
type removal struct {
	img     *state.Image
	beside  []*state.Image    // of other platforms, that go with it
	refs    []reference.Named // that are left
	gone    []reference.Named
	deleted bool
	answers []imagetypes.DeleteResponse
	events  []*state.Event
}

func (r *removal) all() []*state.Image { return append([]*state.Image{r.img}, r.beside...) }

func (i *Images) planRemoval(a nereid.Account, ref string, opts imagetypes.RemoveOptions) (*removal, error) {
	v := i.State.View()
	img, err := findImage(v, a, ref)
	if err != nil {
		return nil, err
	}
	r := &removal{img: img, beside: beside(v, img), refs: references(v, img)}
	done, quiet := false, false
	if isIDPrefix(img.ID, ref) {
		err = i.planByID(r, opts.Force)
	} else {
		done, err = i.planByName(r, ref, opts.Force)
		quiet = true
	}
	if err != nil || done {
		return r, err
	}
	return r, i.planDelete(r, opts.Force, quiet)
}

// isIDPrefix tells whether what the user wrote is the image's id, or the start of it.
func isIDPrefix(id nereid.ImageID, ref string) bool {
	_, hex, _ := strings.Cut(string(id), ":")
	return strings.HasPrefix(string(id), ref) || strings.HasPrefix(hex, ref)
}

// planByName takes one name away. It is done when the image has others left.
func (i *Images) planByName(r *removal, ref string, force bool) (done bool, err error) {
	if !force && singleReference(r.refs) {
		if c := i.anyUser(r.all()...); c != nil {
			return false, errdefs.ErrConflict.WithMessage(fmt.Sprintf(
				"conflict: unable to remove repository reference %q (must force) - container %s is using its referenced image %s",
				ref, c.ID.Short(), shortImage(r.img.ID)))
		}
	}
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return false, invalidImage(err)
	}
	named = withoutTagOfDigest(reference.TagNameOnly(named))
	i.untag(r, named, true)
	if _, digested := named.(reference.Canonical); !digested && !hasTagOf(r.refs, named) {
		for _, left := range slices.Clone(r.refs) { // its digests go with a repository's last tag
			if _, ok := left.(reference.Canonical); ok && left.Name() == named.Name() {
				i.untag(r, left, false)
			}
		}
	}
	return len(r.refs) > 0, nil
}

// withoutTagOfDigest is the form in which name:tag@digest is kept: the digest says it all.
func withoutTagOfDigest(named reference.Named) reference.Named {
	if c, ok := named.(reference.Canonical); ok {
		if d, err := reference.WithDigest(reference.TrimNamed(named), c.Digest()); err == nil {
			return d
		}
	}
	return named
}

func hasTagOf(refs []reference.Named, named reference.Named) bool {
	return slices.ContainsFunc(refs, func(r reference.Named) bool {
		_, digested := r.(reference.Canonical)
		return !digested && r.Name() == named.Name()
	})
}

// planByID takes the only name away; of several, planDelete refuses.
func (i *Images) planByID(r *removal, force bool) error {
	if !singleReference(r.refs) {
		return nil
	}
	check := conflictHard
	if !force {
		check |= conflictStopped
	}
	if c := i.conflict(r, check); c != nil {
		return c.err()
	}
	for _, ref := range slices.Clone(r.refs) {
		i.untag(r, ref, true)
	}
	return nil
}

// planDelete takes the image itself away with all its names. Quietly: a name was removed already, and what keeps the
// image is no error unless it is left without a name and nobody uses it.
func (i *Images) planDelete(r *removal, force, quiet bool) error {
	check := conflictHard
	if !force {
		check |= conflictReferenced | conflictStopped
	}
	if c := i.conflict(r, check); c != nil {
		if quiet && (!i.dangling(r) || c.used) {
			return nil
		}
		return c.err()
	}
	for _, ref := range slices.Clone(r.refs) {
		i.untag(r, ref, true)
	}
	r.deleted = true
	r.answers = append(r.answers, imagetypes.DeleteResponse{Deleted: string(r.img.ID)})
	for _, c := range i.lastLayers(r.img) {
		r.answers = append(r.answers, imagetypes.DeleteResponse{Deleted: c.String()})
	}
	r.events = append(r.events, imageEvent(r.img.Account, i.Host, string(r.img.ID), string(r.img.ID), events.ActionDelete, i.labels(r.img)))
	return nil
}

func (i *Images) untag(r *removal, ref reference.Named, tell bool) {
	r.refs = slices.DeleteFunc(r.refs, func(have reference.Named) bool { return have.String() == ref.String() })
	r.gone = append(r.gone, ref)
	r.answers = append(r.answers, imagetypes.DeleteResponse{Untagged: reference.FamiliarString(ref)})
	if tell {
		r.events = append(r.events, imageEvent(r.img.Account, i.Host, string(r.img.ID), string(r.img.ID), events.ActionUnTag, i.labels(r.img)))
	}
}

// carryOut changes the catalogue, then lets go of the content: a daemon that dies in between leaves the content, which
// Reconcile finds.
func (i *Images) carryOut(ctx context.Context, r *removal) error {
	var ops []state.Op
	digests := slices.Clone(r.img.Digests)
	for _, ref := range r.gone {
		if _, ok := ref.(reference.Canonical); ok {
			digests = slices.DeleteFunc(digests, func(d string) bool { return d == ref.String() })
		} else {
			ops = append(ops, state.Delete(&state.Tag{Account: r.img.Account, Ref: ref.String()}))
		}
	}
	if r.deleted {
		ops = append(ops, state.Delete(r.img))
	} else {
		next := *r.img
		next.Digests = digests
		ops = append(ops, state.Update(&next))
	}
	for _, e := range r.events {
		ops = append(ops, state.Emit(e))
	}
	if _, err := i.State.Commit(ctx, ops...); err != nil {
		return err
	}
	if r.deleted {
		i.dropUnrecorded(ctx, r.img.Account, r.img.ID)
	}
	return nil
}

// removeParents removes what an image was made from, as long as nothing else needs it; what is needed stays silently.
func (i *Images) removeParents(ctx context.Context, a nereid.Account, id nereid.ImageID) []imagetypes.DeleteResponse {
	var answers []imagetypes.DeleteResponse
	for id != "" {
		img, ok := i.State.View().Image(a, id)
		if !ok {
			break
		}
		r := &removal{img: img, refs: references(i.State.View(), img)}
		if i.planDelete(r, false, true) != nil || !r.deleted || i.carryOut(ctx, r) != nil {
			break
		}
		answers = append(answers, r.answers...)
		id = img.Parent
	}
	return answers
}

// singleReference tells whether all of an image's names are of one repository, with at most one tag among them.
func singleReference(refs []reference.Named) bool {
	if len(refs) <= 1 {
		return len(refs) == 1
	}
	tags := 0
	for _, r := range refs {
		if _, digested := r.(reference.Canonical); !digested {
			tags++
		}
		if r.Name() != refs[0].Name() {
			return false
		}
	}
	return tags <= 1
}

func shortImage(id nereid.ImageID) string {
	_, hex, _ := strings.Cut(string(id), ":")
	return hex[:min(12, len(hex))]
}

// lastLayers names the snapshots, the topmost first, that go with an image: those that no other image has. A
// container's layers stay while it is there.
func (i *Images) lastLayers(img *state.Image) []digest.Digest {
	if len(i.Users(img)) > 0 {
		return nil
	}
	shared := map[digest.Digest]bool{}
	for _, other := range i.State.View().Images(img.Account) {
		if other.ID == img.ID {
			continue
		}
		for _, c := range chainsOf(other) {
			shared[c] = true
		}
	}
	chains := chainsOf(img)
	slices.Reverse(chains)
	if n := slices.IndexFunc(chains, func(c digest.Digest) bool { return shared[c] }); n >= 0 {
		chains = chains[:n]
	}
	return chains
}
