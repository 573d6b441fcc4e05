package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/containerd/containerd/v2/core/remotes/docker/auth"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
)

// maxAnswer bounds what is read of a registry's answer into memory, manifests among them.
const maxAnswer = 4 << 20

func limited(r io.Reader) io.Reader { return io.LimitReader(r, maxAnswer) }

// Error codes of the registry API that decide something here.
const (
	codeUnauthorized    = "UNAUTHORIZED"
	codeDenied          = "DENIED"
	codeManifestUnknown = "MANIFEST_UNKNOWN"
	codeNameUnknown     = "NAME_UNKNOWN"
	codeBlobUnknown     = "BLOB_UNKNOWN"
	codeUnsupported     = "UNSUPPORTED"
	codeTooMany         = "TOOMANYREQUESTS"
)

// registryError is what a registry says it minds: the error format of the registry API.
type registryError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (e *registryError) Error() string {
	code := strings.ToLower(strings.ReplaceAll(e.Code, "_", " "))
	if e.Message == "" {
		return code + ": " + defaultMessages[e.Code]
	}
	return code + ": " + e.Message
}

// defaultMessages are the registry API's own, for answers that bring none.
var defaultMessages = map[string]string{
	codeUnauthorized:    "authentication required",
	codeDenied:          "requested access to the resource is denied",
	codeManifestUnknown: "manifest unknown",
	codeNameUnknown:     "repository name not known to registry",
	codeBlobUnknown:     "blob unknown to registry",
	codeUnsupported:     "The operation is unsupported.",
	codeTooMany:         "too many requests",
	"UNKNOWN":           "unknown error",
}

// statusError is an answer that is not in the registry's error format.
type statusError struct {
	status int
	text   string
}

func (e *statusError) Error() string { return e.text }

// answerError reads the error of an answer that is none of success.
func answerError(resp *http.Response) error {
	if resp.StatusCode < 400 || resp.StatusCode >= 500 {
		return &statusError{resp.StatusCode, "received unexpected HTTP status: " + resp.Status}
	}
	for _, c := range auth.ParseAuthHeader(resp.Header) {
		if code, ok := bearerCodes[c.Parameters["error"]]; ok && c.Scheme == auth.BearerAuth {
			return &registryError{Code: code, Message: c.Parameters["error_description"]}
		}
	}
	return bodyError(resp)
}

// bearerCodes maps the error codes of RFC 6750, section 3.1.
var bearerCodes = map[string]string{"invalid_token": codeUnauthorized, "insufficient_scope": codeDenied}

func bodyError(resp *http.Response) error {
	body, err := io.ReadAll(limited(resp.Body))
	if err != nil {
		return err
	}
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	var answer struct {
		Errors  []*registryError `json:"errors"`
		Details string           `json:"details"`
	}
	err = json.Unmarshal(body, &answer)
	switch {
	case err == nil && answer.Details != "":
		return &registryError{codeOf(resp.StatusCode), answer.Details}
	case err == nil && len(answer.Errors) > 0 && answer.Errors[0] != nil:
		return answer.Errors[0]
	case resp.StatusCode == http.StatusUnauthorized:
		return &registryError{Code: codeUnauthorized}
	case !strings.HasSuffix(kind, "json"):
		return &registryError{codeOf(resp.StatusCode), string(body)}
	case err == nil:
		err = errors.New("no error details found in HTTP response body")
	}
	return &statusError{resp.StatusCode, fmt.Sprintf("error parsing HTTP %d response body: %s: %q", resp.StatusCode, err, body)}
}

func codeOf(status int) string {
	switch status {
	case http.StatusUnauthorized:
		return codeUnauthorized
	case http.StatusForbidden:
		return codeDenied
	case http.StatusTooManyRequests:
		return codeTooMany
	}
	return "UNKNOWN"
}

// requestError says which request an error is about, as net/http's own errors do.
func requestError(req *http.Request, err error) error {
	method := req.Method[:1] + strings.ToLower(req.Method[1:])
	return fmt.Errorf("%s %q: %w", method, req.URL.Redacted(), err)
}

// pullError gives a registry's refusal Docker's words and class.
func pullError(err error, ref reference.Named) error {
	var said *registryError
	if !errors.As(err, &said) {
		return err
	}
	switch said.Code {
	case codeDenied:
		return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("pull access denied for %s, repository does not exist or may require 'docker login': %v",
			reference.FamiliarName(ref), said))
	case codeManifestUnknown:
		return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("manifest for %s not found: %v", reference.FamiliarString(ref), said))
	case codeNameUnknown:
		return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("repository %s not found: %v", reference.FamiliarName(ref), said))
	}
	return err
}

// askError gives what a registry refused to tell the class of its code; the words stay the registry's.
func askError(err error) error {
	var said *registryError
	if !errors.As(err, &said) {
		return err
	}
	switch said.Code {
	case codeUnauthorized:
		return errdefs.ErrUnauthenticated.WithMessage(said.Error())
	case codeDenied:
		return errdefs.ErrPermissionDenied.WithMessage(said.Error())
	case codeManifestUnknown, codeNameUnknown:
		return errdefs.ErrNotFound.WithMessage(said.Error())
	}
	return err
}

// final tells whether trying again cannot help.
func final(err error) bool {
	var said *registryError
	var status *statusError
	switch {
	case errors.As(err, &said):
		switch said.Code {
		case codeUnauthorized, codeDenied, codeUnsupported, codeTooMany, codeNameUnknown, codeBlobUnknown, codeManifestUnknown:
			return true
		}
		return false
	case errors.As(err, &status):
		return status.status < 500
	}
	return errdefs.IsInvalidArgument(err) || errdefs.IsNotFound(err) || errors.Is(err, errNoBasicAuth)
}
