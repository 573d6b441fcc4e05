package router

import (
	"context"
	"net/http"

	"github.com/docker/docker/api/types/filters"

	"github.com/nereid-paas/nereid/api/answer"
	"github.com/nereid-paas/nereid/api/request"
)

// Prune serves the removal of what the request's filters select, and answers with the backend's report.
func Prune[R any](w http.ResponseWriter, r *http.Request, prune func(context.Context, filters.Args) (R, error)) error {
	if err := request.Parse(r); err != nil {
		return err
	}
	f, err := request.Filters(r)
	if err != nil {
		return err
	}
	report, err := prune(r.Context(), f)
	if err != nil {
		return err
	}
	return answer.JSON(w, http.StatusOK, report)
}
