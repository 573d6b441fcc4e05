package request

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
)

// MaxBody bounds a JSON body in bytes: room for ten thousand labels of a kilobyte, and far from the daemon's memory.
const MaxBody = 16 << 20

// CheckJSON makes sure that a body, where there is one, says it is JSON.
func CheckJSON(r *http.Request) error {
	ct := r.Header.Get("Content-Type")
	if ct == "" && empty(r) {
		return nil
	}
	media, _, err := mime.ParseMediaType(ct)
	if err != nil {
		return invalid("malformed Content-Type header (%s): %v", ct, err)
	}
	if media != "application/json" {
		return invalid("unsupported Content-Type header (%s): must be 'application/json'", ct)
	}
	return nil
}

func empty(r *http.Request) bool { return r.Body == nil || r.ContentLength == 0 }

// JSON decodes the body into out. No body at all leaves out as it is.
func JSON(r *http.Request, out any) error {
	if err := CheckJSON(r); err != nil {
		return err
	}
	if empty(r) {
		return nil
	}
	err := Decode(r.Body, out)
	if errors.Is(err, io.EOF) {
		return ErrEmptyBody
	}
	return err
}

// ErrEmptyBody answers a body that ended before its JSON began.
var ErrEmptyBody = invalid("invalid JSON: got EOF while reading request body")

// Decode reads exactly one JSON value, of MaxBody bytes at most. An empty input is io.EOF in the error's chain.
func Decode(body io.Reader, out any) error {
	limited := &io.LimitedReader{R: body, N: MaxBody + 1}
	dec := json.NewDecoder(limited)
	err := dec.Decode(out)
	if limited.N <= 0 {
		return invalid("invalid JSON: the request body is larger than %d bytes", MaxBody)
	}
	if err != nil {
		return jsonError{err}
	}
	if dec.More() {
		return invalid("unexpected content after JSON")
	}
	return nil
}

type jsonError struct{ cause error }

func (e jsonError) Error() string   { return "invalid JSON: " + e.cause.Error() }
func (e jsonError) Unwrap() error   { return e.cause }
func (jsonError) InvalidParameter() {}
