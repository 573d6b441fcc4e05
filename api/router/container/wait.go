package container

import (
	"encoding/json"
	"net/http"

	"github.com/docker/docker/api/types/container"

	"github.com/nereid-paas/nereid/api/answer"
	"github.com/nereid-paas/nereid/api/compat"
	"github.com/nereid-paas/nereid/api/request"
)

// wait answers its header as soon as the wait is certain: the CLI starts the container only then.
func (h handlers) wait(w http.ResponseWriter, r *http.Request) error {
	v := compat.From(r.Context())
	cond, err := waitCondition(r, v)
	if err != nil {
		return err
	}
	result, err := h.backend.Wait(r.Context(), request.Name(r), cond)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	if v >= 30 { // older ones get the header with the answer
		answer.NewStream(w).Start()
	}
	resp, ok := <-result
	if !ok || (resp.Error != nil && v < 34 && cond == container.WaitConditionRemoved) {
		return nil // no answer is how these clients learn that the removal failed
	}
	return json.NewEncoder(w).Encode(&resp)
}

func waitCondition(r *http.Request, v compat.Version) (container.WaitCondition, error) {
	if v < 30 {
		return container.WaitConditionNotRunning, nil
	}
	if err := request.Parse(r); err != nil {
		return "", err
	}
	switch cond := container.WaitCondition(r.Form.Get("condition")); cond {
	case "":
		return container.WaitConditionNotRunning, nil
	case container.WaitConditionNotRunning, container.WaitConditionNextExit, container.WaitConditionRemoved:
		return cond, nil
	default:
		return "", invalid("invalid condition: %q", string(cond))
	}
}
