package request

import (
	"strings"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
)

// RepoTag reads a repository and a tag given apart, as commit, import and tag take them. No repository is nil; no tag
// is "latest"; a digest is refused.
func RepoTag(repo, tag string) (reference.NamedTagged, error) {
	if repo == "" {
		return nil, nil
	}
	ref, err := reference.ParseNormalizedNamed(repo)
	if err != nil {
		return nil, refused(err)
	}
	if _, ok := ref.(reference.Digested); ok {
		return nil, invalid("cannot import digest reference")
	}
	if tag != "" {
		named, err := reference.WithTag(ref, tag)
		if err != nil {
			return nil, refused(err)
		}
		return named, nil
	}
	named, ok := reference.TagNameOnly(ref).(reference.NamedTagged)
	if !ok {
		return nil, invalid("unexpected reference: %q", ref.String())
	}
	return named, nil
}

// Pulled reads what to pull: a name and, given apart, a tag or a digest. Without either the reference has none.
func Pulled(image, tag string) (reference.Named, error) {
	// The CLI's pull -a leaves a colon at the end.
	ref, err := reference.ParseNormalizedNamed(strings.TrimSuffix(image, ":"))
	if err != nil {
		return nil, refused(err)
	}
	if tag == "" {
		return ref, nil
	}
	if d, err := digest.Parse(tag); err == nil {
		return digested(ref, d)
	}
	named, err := reference.WithTag(ref, tag)
	if err != nil {
		return nil, refused(err)
	}
	return named, nil
}

func digested(ref reference.Named, d digest.Digest) (reference.Named, error) {
	named, err := reference.WithDigest(reference.TrimNamed(ref), d)
	if err != nil {
		return nil, refused(err)
	}
	return named, nil
}

// refused makes a parse error the client's fault and leaves its words alone.
func refused(err error) error {
	return errdefs.ErrInvalidArgument.WithMessage(err.Error())
}
