// Package compat holds what changes with the API version a client speaks: each function applies the differences of
// one operation at the edge, newest version first, so that handlers and backends know the present version only.
package compat

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/versions"
)

// The versions served, both included.
const (
	Min = "1.24"
	Max = "1.51"
)

// Version is the minor number of an API version: 44 is 1.44.
type Version int

// Newest is what a request without a version in its path speaks.
const Newest Version = 51

// Parse reads the version of a path, such as "1.44". One that is not served is errdefs.ErrInvalidArgument with Docker's
// words. The empty string is Newest.
func Parse(s string) (Version, error) {
	if s == "" {
		return Newest, nil
	}
	if versions.LessThan(s, Min) {
		return 0, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("client version %s is too old. Minimum supported API version is %s, please upgrade your client to a newer version", s, Min))
	}
	if versions.GreaterThan(s, Max) {
		return 0, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("client version %s is too new. Maximum supported API version is %s", s, Max))
	}
	minor, err := strconv.Atoi(strings.Split(s, ".")[1])
	if err != nil {
		return 0, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("client version %q is not a version", s))
	}
	return Version(minor), nil
}

// TooOld tells whether the version of a path is one from before errors were JSON.
func TooOld(s string) bool { return s != "" && versions.LessThan(s, Min) }

// String gives the version as it stands in a path: "1.44".
func (v Version) String() string { return "1." + strconv.Itoa(int(v)) }

type versionKey struct{}

// With returns a context that carries the version a request speaks. Only the server's version check puts it there.
func With(ctx context.Context, v Version) context.Context {
	return context.WithValue(ctx, versionKey{}, v)
}

// From returns the version a request speaks; Newest where none was set.
func From(ctx context.Context) Version {
	if v, ok := ctx.Value(versionKey{}).(Version); ok {
		return v
	}
	return Newest
}
