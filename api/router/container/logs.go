package container

import (
	"net/http"

	"github.com/docker/docker/api/types/container"

	"github.com/nereid-paas/nereid/api/answer"
	"github.com/nereid-paas/nereid/api/request"
)

func (h handlers) logs(w http.ResponseWriter, r *http.Request) error {
	if err := request.Parse(r); err != nil {
		return err
	}
	opts := container.LogsOptions{
		ShowStdout: request.Bool(r, "stdout"),
		ShowStderr: request.Bool(r, "stderr"),
		Since:      r.Form.Get("since"),
		Until:      r.Form.Get("until"),
		Timestamps: request.Bool(r, "timestamps"),
		Follow:     request.Bool(r, "follow"),
		Tail:       r.Form.Get("tail"),
		Details:    request.Bool(r, "details"),
	}
	if !opts.ShowStdout && !opts.ShowStderr {
		return invalid("Bad parameters: you must choose at least one stream")
	}
	msgs, tty, err := h.backend.Logs(r.Context(), request.Name(r), opts)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", answer.StreamType(r, !tty))
	answer.Logs(w, msgs, opts, !tty) // the point of no return
	return nil
}
