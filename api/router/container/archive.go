package container

import (
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/docker/docker/api/types/backend"
	"github.com/docker/docker/api/types/container"

	"github.com/nereid-paas/nereid/api/answer"
	"github.com/nereid-paas/nereid/api/request"
)

// statHeader carries what a path in a container is, as base64 of JSON.
const statHeader = "X-Docker-Container-Path-Stat"

func setStat(w http.ResponseWriter, stat *container.PathStat) error {
	raw, err := json.Marshal(stat)
	if err != nil {
		return err
	}
	w.Header().Set(statHeader, base64.StdEncoding.EncodeToString(raw))
	return nil
}

func (h handlers) archiveStat(w http.ResponseWriter, r *http.Request) error {
	ref, path, err := request.Archive(r)
	if err != nil {
		return err
	}
	stat, err := h.backend.ArchiveStat(r.Context(), ref, path)
	if err != nil {
		return err
	}
	return setStat(w, stat)
}

func (h handlers) archiveGet(w http.ResponseWriter, r *http.Request) error {
	ref, path, err := request.Archive(r)
	if err != nil {
		return err
	}
	content, stat, err := h.backend.ArchiveGet(r.Context(), ref, path)
	if err != nil {
		return err
	}
	defer content.Close()
	if err := setStat(w, stat); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-tar")
	if !worthCompressing(r) {
		_, err := io.Copy(w, content)
		return err
	}
	w.Header().Set("Content-Encoding", "gzip")
	z := gzip.NewWriter(w)
	if _, err := io.Copy(z, content); err != nil {
		return err
	}
	return z.Close()
}

// worthCompressing tells whether the client takes gzip and sits on another machine: on this one, compressing costs
// more than it saves.
func worthCompressing(r *http.Request) bool {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return false // a unix socket
	}
	if ip := net.ParseIP(host); ip == nil || ip.IsLoopback() {
		return false
	}
	for _, offer := range strings.Split(r.Header.Get("Accept-Encoding"), ",") {
		coding, q, _ := strings.Cut(strings.ReplaceAll(offer, " ", ""), ";")
		if (coding == "gzip" || coding == "*") && strings.TrimRight(q, "0.") != "q=" {
			return true
		}
	}
	return false
}

func (h handlers) archivePut(w http.ResponseWriter, r *http.Request) error {
	ref, path, err := request.Archive(r)
	if err != nil {
		return err
	}
	return h.backend.ArchivePut(r.Context(), ref, path, request.Bool(r, "noOverwriteDirNonDir"), request.Bool(r, "copyUIDGID"), r.Body)
}

func (h handlers) export(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Content-Type", "application/octet-stream")
	return h.backend.Export(r.Context(), request.Name(r), w)
}

func (h handlers) commit(w http.ResponseWriter, r *http.Request) error {
	if err := request.Parse(r); err != nil {
		return err
	}
	cfg, err := decodeCommit(r)
	if err != nil {
		return err
	}
	id, err := h.backend.Commit(r.Context(), r.Form.Get("container"), cfg)
	if err != nil {
		return err
	}
	return answer.JSON(w, http.StatusCreated, &container.CommitResponse{ID: id})
}

func decodeCommit(r *http.Request) (*backend.CreateImageConfig, error) {
	cfg := &backend.CreateImageConfig{
		Pause:   request.BoolOr(r, "pause", true),
		Author:  r.Form.Get("author"),
		Comment: r.Form.Get("comment"),
		Changes: r.Form["changes"],
	}
	var body container.CreateRequest // a bare configuration; what else is in it is not heeded
	if err := request.JSON(r, &body); err != nil && !errors.Is(err, request.ErrEmptyBody) {
		return nil, err
	}
	cfg.Config = body.Config
	ref, err := request.RepoTag(r.Form.Get("repo"), r.Form.Get("tag"))
	if err != nil {
		return nil, err
	}
	cfg.Tag = ref
	return cfg, nil
}
