// Package request reads what clients send: query parameters, JSON bodies, filters, references, platforms and
// credentials, as strictly and as leniently as Docker does, with its words where it refuses.
package request

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/gorilla/mux"
)

func invalid(format string, args ...any) error {
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(format, args...))
}

// Parse reads the query (and the body of a form post) into r.Form. Every handler that reads parameters calls it first.
func Parse(r *http.Request) error {
	if err := r.ParseForm(); err != nil && !strings.HasPrefix(err.Error(), "mime:") {
		return refused(err)
	}
	return nil
}

// Name is the thing that the request's path names.
func Name(r *http.Request) string { return mux.Vars(r)["name"] }

// Bool reads a flag as Docker does: everything but nothing, 0, no, false and none is true.
func Bool(r *http.Request, key string) bool {
	switch strings.ToLower(strings.TrimSpace(r.Form.Get(key))) {
	case "", "0", "no", "false", "none":
		return false
	}
	return true
}

// BoolOr is Bool, or def where the parameter is absent.
func BoolOr(r *http.Request, key string, def bool) bool {
	if _, ok := r.Form[key]; !ok {
		return def
	}
	return Bool(r, key)
}

// Int reads a whole number; absent or empty it is nil.
func Int(r *http.Request, key string) (*int, error) {
	s := r.Form.Get(key)
	if s == "" {
		return nil, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return nil, err
	}
	return &n, nil
}

// Size reads the height and width of a terminal, in characters.
func Size(r *http.Request) (height, width uint32, err error) {
	if height, err = uint32Value(r.Form.Get("h")); err != nil {
		return 0, 0, invalid("invalid resize height %q: %v", r.Form.Get("h"), err)
	}
	if width, err = uint32Value(r.Form.Get("w")); err != nil {
		return 0, 0, invalid("invalid resize width %q: %v", r.Form.Get("w"), err)
	}
	return height, width, nil
}

// uint32Value tells a number out of range, negative ones included, from one that is none.
func uint32Value(s string) (uint32, error) {
	digits, negative := strings.CutPrefix(s, "-")
	if digits == "" || digits[0] == '+' {
		return 0, strconv.ErrSyntax
	}
	n, err := strconv.ParseUint(digits, 10, 32)
	if err != nil {
		return 0, errors.Unwrap(err)
	}
	if negative {
		return 0, strconv.ErrRange
	}
	return uint32(n), nil
}

// Archive reads the path inside a container that an archive request is about.
func Archive(r *http.Request) (ref, path string, err error) {
	if err := Parse(r); err != nil {
		return "", "", err
	}
	if ref = Name(r); ref == "" {
		return "", "", invalid("bad parameter: namecannot be empty")
	}
	if path = r.Form.Get("path"); path == "" {
		return "", "", invalid("bad parameter: pathcannot be empty")
	}
	return ref, path, nil
}
