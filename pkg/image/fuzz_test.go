package image_test

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"testing"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/docker/docker/api/types/container"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"

	"github.com/nereid-paas/nereid/pkg/image"
	"github.com/nereid-paas/nereid/pkg/image/imagetest"
)

// FuzzLoad loads what is like an archive of images: any names for its files, links among them, and any documents. It
// is loaded whole or refused, and nothing of one refused is entered.
func FuzzLoad(f *testing.F) {
	f.Add("manifest.json", `[{"Config":"c.json","RepoTags":["x:1"],"Layers":["l.tar"]}]`, "c.json", `{"os":"linux","rootfs":{"diff_ids":[]}}`, "l.tar")
	f.Add("index.json", `{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:00","size":-1}]}`, "oci-layout", `{"imageLayoutVersion":"1.0.0"}`, "blobs/sha256/00")
	f.Add("repositories", `{"x":{"1":"a"}}`, "a/json", `{"id":"a","parent":"a"}`, "../../etc/passwd")
	f.Add("manifest.json", `null`, "/manifest.json", `[]`, "manifest.json")
	f.Add("manifest.json", `[{"Config":"../c"}]`, "c", "\xff", "c")
	client := imagetest.NewContainerd(f).Client
	store := image.New(image.Config{Client: func() *containerd.Client { return client }})
	f.Fuzz(func(t *testing.T, name, doc, other, text, link string) {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, e := range []struct{ name, body, link string }{{name, doc, ""}, {other, text, ""}, {link, "", name}, {"l" + link, "", link}} {
			h := &tar.Header{Name: e.name, Size: int64(len(e.body)), Mode: 0o644, Typeflag: tar.TypeReg}
			if e.link != "" {
				h.Typeflag, h.Linkname = tar.TypeSymlink, e.link
			}
			if w.WriteHeader(h) != nil {
				return // no tar can have this
			}
			_, _ = io.WriteString(w, e.body)
		}
		_ = w.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		entered := false
		err := store.Load(ctx, "admin", &b, nil, nil, func([]*image.Loaded) error { entered = true; return nil })
		if ctx.Err() != nil {
			t.Fatal("it takes too long")
		}
		if err != nil && entered {
			t.Errorf("entered, and then %v", err)
		}
	})
}

// FuzzLoadDamaged loads archives that were good until a byte of them changed.
func FuzzLoadDamaged(f *testing.F) {
	img := imagetest.Image(f, 1, nil, [2]string{"a", "one"}, [2]string{"b", "two"})
	docker := imagetest.DockerArchive(f, map[string]v1.Image{"x:1": img})
	oci := imagetest.OCIArchive(f, func(p layout.Path) { _ = p.AppendImage(img) })
	f.Add(0, byte(0), true)
	f.Add(600, byte(1), false)
	f.Add(1<<13, byte(255), true)
	c := imagetest.NewContainerd(f).Client
	store := image.New(image.Config{Client: func() *containerd.Client { return c }})
	f.Fuzz(func(t *testing.T, at int, change byte, old bool) {
		src := oci
		if old {
			src = docker
		}
		damaged := bytes.Clone(src)
		damaged[uint(at)%uint(len(damaged))] ^= change
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		_ = store.Load(ctx, "admin", bytes.NewReader(damaged), nil, nil, func(all []*image.Loaded) error {
			for _, l := range all {
				if len(l.Config) == 0 {
					t.Error("an image without a configuration")
				}
			}
			return nil
		})
		if ctx.Err() != nil {
			t.Fatal("it takes too long")
		}
	})
}

// FuzzChanges applies any changes, as commit and import have them.
func FuzzChanges(f *testing.F) {
	for _, s := range []string{"CMD [\"sh\"]", "ENV A=1 B=\"x y\"", "EXPOSE 80/tcp 1-65535", "LABEL a=b", "USER x", "VOLUME [\"/a\"]", "WORKDIR $A", "HEALTHCHECK --interval=1s CMD x", "ONBUILD RUN x", "STOPSIGNAL x", "SHELL []", "RUN x", "\xff", "ENV", "# x", "CMD \\\n x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		cfg, err := image.ApplyChanges(&container.Config{}, []string{s})
		if err == nil && cfg == nil {
			t.Error("neither a configuration nor an error")
		}
	})
}
