package engine

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"

	"github.com/docker/docker/api/types/container"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/peer"
)

// elsewhere tells whether a thing of a host's is for that host to deal with. Things without a host are anybody's.
func (d Deps) elsewhere(h nereid.Host) bool { return h != "" && h != d.Host && d.Road != nil }

// ask has another host do, for the account of the context, what a request of Docker's API says, and decodes its answer
// into out, unless nil. Its refusals keep their words and class.
func (d Deps) ask(ctx context.Context, to nereid.Host, method, path string, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+string(to)+path, http.NoBody)
	if err != nil {
		return err
	}
	res, err := d.Road.RoundTrip(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode >= http.StatusBadRequest {
		return peer.Refusal(res)
	}
	if out == nil {
		return nil
	}
	return json.NewDecoder(res.Body).Decode(out)
}

// sizeOn asks a container's host for the size of its files.
func (c *Containers) sizeOn(ctx context.Context, h nereid.Host, id nereid.ContainerID) (rw, total int64, err error) {
	var answer container.InspectResponse
	if err := c.ask(ctx, h, http.MethodGet, "/containers/"+string(id)+"/json?size=1", &answer); err != nil {
		return 0, 0, err
	}
	if answer.ContainerJSONBase == nil || answer.SizeRw == nil || answer.SizeRootFs == nil {
		return 0, 0, nil
	}
	return *answer.SizeRw, *answer.SizeRootFs, nil
}

// removeOn has a volume's home remove it.
func (v *Volumes) removeOn(ctx context.Context, h nereid.Host, name string) error {
	return v.ask(ctx, h, http.MethodDelete, "/volumes/"+url.PathEscape(name), nil)
}
