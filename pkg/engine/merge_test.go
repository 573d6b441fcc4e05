package engine

import (
	"testing"

	"github.com/docker/docker/api/types/container"
	"gotest.tools/v3/assert"
)

func TestMergeOfEmptyMapsIsTheImages(t *testing.T) {
	type set = map[string]struct{}
	for _, tc := range []struct {
		name              string
		user, image, want set
	}{
		{"neither", set{}, nil, nil},
		{"the image's", set{}, set{"/a": {}}, set{"/a": {}}},
		{"the user's", set{"/b": {}}, nil, set{"/b": {}}},
		{"both", set{"/b": {}}, set{"/a": {}}, set{"/a": {}, "/b": {}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			user := &container.Config{Volumes: tc.user}
			mergeImage(user, &container.Config{Volumes: tc.image})
			assert.DeepEqual(t, user.Volumes, tc.want)
			assert.Assert(t, user.Labels != nil)
		})
	}
}
