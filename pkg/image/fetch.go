package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// stallTime ends a download whose registry sends nothing: its connection may be dead without either end knowing.
const stallTime = 2 * time.Minute

// copySize is what is handed to or taken from containerd at once; with a containerd of its own process each piece is
// a round trip.
const copySize = 512 << 10

// present tells whether a blob is in the account's content, and holds it there.
func (s *Store) present(h *hold, d ocispec.Descriptor) (bool, error) {
	if err := h.content(d.Digest); err != nil {
		return false, err
	}
	_, err := s.content().Info(h.ctx, d.Digest)
	switch {
	case err == nil:
		return true, nil
	case errdefs.IsNotFound(err):
		return false, nil
	}
	return false, fmt.Errorf("look for %s: %w", d.Digest, err)
}

// fetch brings a blob here, trying again where that may help; what an earlier try left is taken up. Two that fetch
// one blob do it once: the second waits for the first's writer.
func (s *Store) fetch(h *hold, r *Repository, d ocispec.Descriptor, p *Progress) (retErr error) {
	key := remotes.MakeRefKey(h.ctx, d)
	w, err := content.OpenWriter(h.ctx, s.content(), content.WithRef(key), content.WithDescriptor(d))
	if errdefs.IsAlreadyExists(err) {
		return h.content(d.Digest)
	}
	if err != nil {
		return fmt.Errorf("store layer %s: %w", d.Digest, err)
	}
	defer w.Close()
	for attempt := 1; ; attempt++ {
		err := s.download(h.ctx, r, d, w, p)
		if err == nil {
			return nil
		}
		if errors.Is(err, errBadDigest) {
			s.abort(h.ctx, w, key)
		}
		if h.ctx.Err() != nil {
			return h.ctx.Err()
		}
		if final(err) || r.once || attempt >= s.cfg.Attempts {
			return err
		}
		if err := s.waitRetry(h.ctx, attempt, shortID(d.Digest.String()), p); err != nil {
			return err
		}
	}
}

// abort throws away what was written: the next try must not go on from it.
func (s *Store) abort(ctx context.Context, w content.Writer, key string) {
	w.Close()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	_ = s.content().Abort(ctx, key)
}

// waitRetry counts down to the next try, telling the client each second.
func (s *Store) waitRetry(ctx context.Context, attempt int, id string, p *Progress) error {
	const tick = time.Second
	for left := time.Duration(attempt) * s.cfg.RetryDelay; left > 0; left -= tick {
		seconds := int((left + tick - 1) / tick)
		plural := "s"
		if seconds == 1 {
			plural = ""
		}
		p.Action(id, fmt.Sprintf("Retrying in %d second%s", seconds, plural))
		select {
		case <-time.After(min(left, tick)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

var errBadDigest = errors.New("wrong digest")

// download reads what is missing of a blob, checks the whole and stores it.
func (s *Store) download(ctx context.Context, r *Repository, d ocispec.Descriptor, w content.Writer, p *Progress) error {
	resumed, err := s.receive(ctx, r, d, w, p)
	bad := errors.Is(err, errBadDigest)
	if err != nil && !(bad && resumed) {
		return err
	}
	id := shortID(d.Digest.String())
	p.Action(id, "Verifying Checksum")
	// A writer that has written nothing yet may not know the digest of what was there before; its commit does.
	if sum := w.Digest(); resumed && (bad || sum != "" && sum != d.Digest) {
		return errors.Join(verifyError(d), w.Truncate(0)) // what was there before may be to blame
	}
	err = w.Commit(ctx, d.Size, d.Digest)
	switch {
	case errdefs.IsFailedPrecondition(err):
		return altered(verifyError(d))
	case err != nil && !errdefs.IsAlreadyExists(err):
		return fmt.Errorf("store layer %s: %w", d.Digest, err)
	}
	p.Action(id, "Download complete")
	return nil
}

// altered is of content that is whole and not what its digest says: asking for it again does not help.
func altered(err error) error { return &classed{invalid(err), errBadDigest} }

func verifyError(d ocispec.Descriptor) error {
	return fmt.Errorf("filesystem layer verification failed for digest %s", d.Digest)
}

// receive copies a blob's missing part and tells whether there was one already.
func (s *Store) receive(ctx context.Context, r *Repository, d ocispec.Descriptor, w content.Writer, p *Progress) (resumed bool, err error) {
	st, err := w.Status()
	if err != nil {
		return false, err
	}
	if st.Offset == d.Size {
		return st.Offset > 0, nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stalled := time.AfterFunc(stallTime, func() { cancel(fmt.Errorf("registry sent nothing for %s", stallTime)) })
	defer stalled.Stop()
	if st.Offset > d.Size {
		st.Offset = 0
	}
	body, from, err := r.blob(ctx, d, st.Offset)
	if err != nil {
		return false, cmp.Or(context.Cause(ctx), err)
	}
	defer body.Close()
	if from == 0 {
		if err := w.Truncate(0); err != nil {
			return false, err
		}
	}
	alive := readFunc(func(b []byte) (int, error) {
		stalled.Reset(stallTime)
		return body.Read(b)
	})
	in := p.reader(io.LimitReader(alive, d.Size-from+1), d.Size-from, shortID(d.Digest.String()), "Downloading")
	n, err := io.CopyBuffer(w, in, make([]byte, copySize))
	if err != nil {
		return false, cmp.Or(context.Cause(ctx), err)
	}
	return from > 0, sizeError(d, from+n)
}

func sizeError(d ocispec.Descriptor, got int64) error {
	switch {
	case got < d.Size: // a body that was cut is an error of its own
		return altered(verifyError(d))
	case got > d.Size:
		return altered(fmt.Errorf("layer %s is larger than the %d bytes its manifest says", d.Digest, d.Size))
	}
	return nil
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(b []byte) (int, error) { return f(b) }
