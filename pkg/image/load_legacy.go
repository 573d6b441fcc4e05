package image

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/container"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxChain bounds the parents of a legacy image: a layer each, and overlayfs takes no more.
const maxChain = 128

// legacyImage is the json file of one step of an image as engines before 1.10 saved it: a directory per layer, each
// naming its parent.
type legacyImage struct {
	OS              string            `json:"os"`
	Parent          string            `json:"parent"`
	Created         *time.Time        `json:"created"`
	Author          string            `json:"author"`
	Comment         string            `json:"comment"`
	ContainerConfig *container.Config `json:"container_config"`
	raw             []byte
	id              string
}

// legacy loads the images that the repositories file names.
func (l *loader) legacy() ([]*Loaded, error) {
	var repos map[string]map[string]string
	if err := l.decode(legacyRepos, &repos); err != nil {
		return nil, err
	}
	byID := map[string]*Loaded{}
	var order []string
	for repo, tags := range repos {
		for tag, id := range tags {
			named, err := parseTags([]string{repo + ":" + tag})
			if err != nil {
				return nil, err
			}
			if byID[id] == nil {
				if byID[id], err = l.legacyImage(id); err != nil {
					return nil, err
				}
				order = append(order, id)
			}
			byID[id].Tags = append(byID[id].Tags, named...)
		}
	}
	slices.Sort(order)
	var loaded []*Loaded
	for _, id := range order {
		slices.SortFunc(byID[id].Tags, func(a, b reference.NamedTagged) int { return strings.Compare(a.String(), b.String()) })
		loaded = append(loaded, byID[id])
	}
	return loaded, nil
}

// legacyImage walks from an image down to its first layer and makes today's configuration of what it finds.
func (l *loader) legacyImage(id string) (*Loaded, error) {
	var steps []*legacyImage
	for at := id; at != "" || len(steps) == 0; {
		if len(steps) == maxChain {
			return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("image %s has more than %d layers", id, maxChain))
		}
		step := &legacyImage{id: at}
		raw, err := l.read(path.Join(at, "json"))
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(raw, step); err != nil {
			return nil, invalid(fmt.Errorf("%s/json: %w", at, err))
		}
		step.raw = raw
		steps = append(steps, step)
		at = step.Parent
	}
	slices.Reverse(steps)
	m := &manifest{SchemaVersion: 2, MediaType: mediaTypeManifest}
	root := ocispec.RootFS{Type: "layers"}
	var history []ocispec.History
	for _, step := range steps {
		d, err := l.blob(path.Join(step.id, "layer.tar"))
		if err != nil {
			return nil, err
		}
		diff, err := l.diffID(d)
		if err != nil {
			return nil, err
		}
		m.Layers = append(m.Layers, d)
		root.DiffIDs = append(root.DiffIDs, diff)
		history = append(history, step.history())
	}
	return l.legacyAssemble(steps[len(steps)-1].raw, m, root, history)
}

func (i *legacyImage) history() ocispec.History {
	h := ocispec.History{Created: i.Created, Author: i.Author, Comment: i.Comment}
	if i.ContainerConfig != nil {
		h.CreatedBy = strings.Join(i.ContainerConfig.Cmd, " ")
	}
	return h
}

// legacyFields are what a legacy image's json says of its storage rather than of the image.
var legacyFields = []string{"id", "parent", "Size", "parent_id", "layer_id", "throwaway"}

func (l *loader) legacyAssemble(top []byte, m *manifest, root ocispec.RootFS, history []ocispec.History) (*Loaded, error) {
	fields := map[string]any{}
	if err := json.Unmarshal(top, &fields); err != nil {
		return nil, invalid(err)
	}
	if fields == nil {
		return nil, errdefs.ErrInvalidArgument.WithMessage("an image's json cannot be null")
	}
	for _, f := range legacyFields {
		delete(fields, f)
	}
	fields["rootfs"], fields["history"] = root, history
	raw, err := marshal(fields)
	if err != nil {
		return nil, err
	}
	cfg, err := loadable(raw)
	if err != nil {
		return nil, err
	}
	held, err := l.assemble(m, raw, cfg)
	if err != nil {
		return nil, err
	}
	return &Loaded{Held: *held}, nil
}
