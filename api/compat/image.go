package compat

import (
	"encoding/json"
	"maps"
	"time"

	"github.com/docker/docker/api/types/image"
)

// ImageList gives a list of images the form of version v. The summaries must be the caller's own.
func ImageList(v Version, list []*image.Summary) {
	for _, img := range list {
		if v < 51 {
			img.Containers = -1
		}
		if v < 48 {
			img.Descriptor = nil
		}
		if v < 44 {
			img.VirtualSize = img.Size
		}
		namesOf(v, img)
	}
}

// namesOf answers an image without names as version v writes it; never null.
func namesOf(v Version, img *image.Summary) {
	if v < 43 && len(img.RepoTags) == 0 && len(img.RepoDigests) == 0 {
		img.RepoTags, img.RepoDigests = []string{"<none>:<none>"}, []string{"<none>@<none>"}
	}
	if img.RepoTags == nil {
		img.RepoTags = []string{}
	}
	if img.RepoDigests == nil {
		img.RepoDigests = []string{}
	}
}

// ImageInspect gives an inspect answer the form of version v, ready for JSON. The answer must be the caller's own.
func ImageInspect(v Version, img *image.InspectResponse) any {
	legacy := configSince150
	if v < 50 {
		legacy = configBefore150
	}
	if v < 48 {
		img.Descriptor = nil
	}
	if v >= 45 {
		img.Container, img.ContainerConfig = "", nil
	}
	if v < 44 {
		img.VirtualSize = img.Size
		if img.Created == "" {
			img.Created = time.Time{}.Format(time.RFC3339Nano)
		}
	}
	if img.RepoTags == nil {
		img.RepoTags = []string{}
	}
	if img.RepoDigests == nil {
		img.RepoDigests = []string{}
	}
	return &imageInspect{img, legacy}
}

// The fields of an image's configuration that are in an answer even when empty. The OCI type leaves them out; clients
// of all versions rely on these, and those before 1.50 on the container fields as well.
var (
	configSince150 = map[string]any{
		"Cmd": nil, "Entrypoint": nil, "Env": nil, "Labels": nil, "OnBuild": nil, "User": "", "Volumes": nil, "WorkingDir": "",
	}
	configBefore150 = map[string]any{
		"AttachStderr": false, "AttachStdin": false, "AttachStdout": false, "Domainname": "", "Hostname": "", "Image": "",
		"OpenStdin": false, "StdinOnce": false, "Tty": false,
		"Cmd": nil, "Entrypoint": nil, "Env": nil, "Labels": nil, "OnBuild": nil, "User": "", "Volumes": nil, "WorkingDir": "",
	}
)

type imageInspect struct {
	*image.InspectResponse
	legacy map[string]any
}

// MarshalJSON fills the configuration up with the fields that must be there.
func (i *imageInspect) MarshalJSON() ([]byte, error) {
	config := maps.Clone(i.legacy)
	if i.Config != nil {
		raw, err := json.Marshal(i.Config)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(raw, &config); err != nil {
			return nil, err
		}
	}
	return json.Marshal(struct {
		*image.InspectResponse
		Config map[string]any
	}{i.InspectResponse, config})
}
