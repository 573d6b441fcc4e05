package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync"

	"github.com/docker/docker/api/types/container"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// ListJSON is List without sizes, as the JSON that the newest API version has: it writes the state at the time of the
// call. What it says of a container is encoded once for as long as the container stays as it is.
func (c *Containers) ListJSON(ctx context.Context, opts container.ListOptions) (io.WriterTo, error) {
	l, err := c.selectListed(ctx, opts)
	if err != nil {
		return nil, err
	}
	return listJSON{l}, nil
}

type listJSON struct{ *containerList }

// listFlush is how many bytes are written at a time.
const listFlush = 64 << 10

func (l listJSON) WriteTo(w io.Writer) (written int64, err error) {
	buf := append(make([]byte, 0, listFlush+listFlush/8), '[')
	flush := func() {
		n, failed := w.Write(buf)
		written, err, buf = written+int64(n), failed, buf[:0]
	}
	for i, r := range l.shown {
		if i > 0 {
			buf = append(buf, ',')
		}
		s, failed := l.c.encoded.summary(l.containerList, r)
		if failed != nil {
			return written, failed
		}
		buf = append(buf, s.json[:s.status]...)
		buf = strconv.AppendQuote(buf, l.c.Fleet.hostedStatus(r, l.now)) // words of ours and a host's name: printable
		buf = append(buf, s.json[s.status:]...)
		if len(buf) >= listFlush {
			if flush(); err != nil {
				return written, err
			}
		}
	}
	buf = append(buf, ']', '\n')
	flush()
	return written, err
}

// encodedMax bounds the bytes of summaries kept: some 80,000 of containers without many labels. What does not fit is
// encoded each time.
const encodedMax = 64 << 20

// encodedSummaries are the summaries of containers as JSON. All methods may be called at once.
type encodedSummaries struct {
	mu   sync.RWMutex
	kept map[nereid.ContainerID]*encodedSummary
	size int // of kept, in bytes
	// tidyAt is the number of summaries at which those of containers that are gone are dropped: twice what was left the
	// last time.
	tidyAt int
}

// encodedSummary is the JSON of a summary but for its status, which goes in at an offset: that says how long ago things
// were.
type encodedSummary struct {
	account nereid.Account
	rev     state.Revision // of the record
	image   string         // what the image was called
	fleet   bool           // it tells the host
	links   []string       // the names it had by the links of others
	json    []byte
	status  int
}

// encodedOverhead is about what a summary kept takes beside its JSON: its id, itself, its place in the map.
const encodedOverhead = 250

// summary of a container as a list shows it.
func (e *encodedSummaries) summary(l *containerList, r *state.Container) (*encodedSummary, error) {
	image := l.imageName(r)
	e.mu.RLock()
	s := e.kept[r.ID]
	e.mu.RUnlock()
	if s != nil && s.rev == r.Rev && s.image == image && s.fleet == l.fleet && slices.Equal(s.links, l.links[r.ID]) {
		return s, nil
	}
	s, err := encodeSummary(l, r, image)
	if err == nil {
		e.keep(l.view, r.ID, s)
	}
	return s, err
}

func (e *encodedSummaries) keep(v *state.View, id nereid.ContainerID, s *encodedSummary) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.kept == nil {
		e.kept, e.tidyAt = map[nereid.ContainerID]*encodedSummary{}, 1000
	}
	e.dropLocked(id)
	if len(e.kept) >= e.tidyAt {
		for id, old := range e.kept {
			if _, there := v.Container(old.account, id); !there {
				e.dropLocked(id)
			}
		}
		e.tidyAt = max(1000, 2*len(e.kept))
	}
	if size := len(s.json) + encodedOverhead; e.size+size <= encodedMax {
		e.kept[id] = s
		e.size += size
	}
}

func (e *encodedSummaries) dropLocked(id nereid.ContainerID) {
	if old := e.kept[id]; old != nil {
		e.size -= len(old.json) + encodedOverhead
		delete(e.kept, id)
	}
}

// statusField is how an empty status and what follows it look in the JSON of a summary. Before it all that is not ours is
// strings, in which quotes are escaped and which no brace follows.
const statusField = `"Status":"","HostConfig":{`

func encodeSummary(l *containerList, r *state.Container, image string) (*encodedSummary, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(l.summary(r, image, "")); err != nil {
		return nil, err
	}
	before, after, ok := bytes.Cut(bytes.TrimSuffix(buf.Bytes(), []byte("\n")), []byte(statusField))
	if !ok {
		return nil, fmt.Errorf("no status in the summary of container %s", r.ID)
	}
	s := &encodedSummary{account: r.Account, rev: r.Rev, image: image, fleet: l.fleet, links: l.links[r.ID], status: len(before) + len(`"Status":`)}
	s.json = make([]byte, 0, buf.Len()) // a little less is needed: the quotes of the status are not ours to write
	s.json = append(append(s.json, before...), `"Status":`...)
	s.json = append(append(s.json, `,"HostConfig":{`...), after...)
	return s, nil
}
