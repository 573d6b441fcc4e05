// Package answer writes what clients read: JSON, error statuses, streams that are flushed as they grow, logs, and
// connections taken over.
package answer

import (
	"errors"
	"net/http"

	"github.com/containerd/errdefs"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// statuses are Docker's for each class of error; what is not here is 500.
var statuses = map[error]int{
	errdefs.ErrNotModified:        http.StatusNotModified,
	errdefs.ErrInvalidArgument:    http.StatusBadRequest,
	errdefs.ErrFailedPrecondition: http.StatusBadRequest,
	errdefs.ErrOutOfRange:         http.StatusBadRequest,
	errdefs.ErrUnauthenticated:    http.StatusUnauthorized,
	errdefs.ErrPermissionDenied:   http.StatusForbidden,
	errdefs.ErrNotFound:           http.StatusNotFound,
	errdefs.ErrConflict:           http.StatusConflict,
	errdefs.ErrAlreadyExists:      http.StatusConflict,
	errdefs.ErrNotImplemented:     http.StatusNotImplemented,
	errdefs.ErrUnavailable:        http.StatusServiceUnavailable,
}

// Status is the HTTP status of an error's class: the only place where one becomes the other. The outermost class
// counts.
func Status(err error) int {
	class := errdefs.Resolve(err)
	if code, ok := statuses[class]; ok {
		return code
	}
	if errors.Is(class, errdefs.ErrUnknown) {
		return grpcStatus(err)
	}
	return http.StatusInternalServerError
}

// grpcStatus serves errors that a containerd call brought without anybody classing them.
func grpcStatus(err error) int {
	switch status.Code(err) {
	case codes.InvalidArgument, codes.FailedPrecondition, codes.OutOfRange:
		return http.StatusBadRequest
	case codes.Unauthenticated:
		return http.StatusUnauthorized
	case codes.PermissionDenied:
		return http.StatusForbidden
	case codes.NotFound:
		return http.StatusNotFound
	case codes.AlreadyExists:
		return http.StatusConflict
	case codes.Unimplemented:
		return http.StatusNotImplemented
	case codes.Unavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}
