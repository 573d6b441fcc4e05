package image

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/registry"
)

// Search limits, as the registries' search API has them.
const (
	searchDefault = 25
	searchMost    = 100
)

// Search asks a registry's search API, the only part of the first registry API that is still served, by Docker Hub
// above all. Another registry than Docker Hub is named at the front of the term.
func (s *Store) Search(ctx context.Context, term string, limit int, creds *registry.AuthConfig) ([]registry.SearchResult, error) {
	if strings.Contains(term, "://") {
		return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid repository name: repository name (%s) should not have a scheme", term))
	}
	if limit == 0 {
		limit = searchDefault
	}
	if limit < 1 || limit > searchMost {
		return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("limit %d is outside the range of [1, %d]", limit, searchMost))
	}
	all, term, err := s.searchEndpoints(ctx, term)
	if err != nil {
		return nil, err
	}
	for _, e := range all {
		var found []registry.SearchResult
		if found, err = s.searchAt(ctx, e, term, limit, creds); err == nil {
			return found, nil
		}
		if gaveUp(ctx, err) {
			break
		}
	}
	return nil, err
}

func (s *Store) searchEndpoints(ctx context.Context, term string) ([]*endpoint, string, error) {
	domain, rest, ok := strings.Cut(term, "/")
	if !ok || (!strings.ContainsAny(domain, ".:") && domain != "localhost") || domain == hubDomain || domain == "index."+hubDomain {
		if domain == hubDomain || domain == "index."+hubDomain {
			term = rest
		}
		hub := &endpoint{url: url.URL{Scheme: "https", Host: "index." + hubDomain}}
		return []*endpoint{hub}, strings.TrimPrefix(term, "library/"), nil
	}
	all, err := s.endpoints(ctx, domain)
	return all, rest, err
}

func (s *Store) searchAt(ctx context.Context, e *endpoint, term string, limit int, creds *registry.AuthConfig) ([]registry.SearchResult, error) {
	client := &http.Client{Transport: s.transport(e), Timeout: pingTimeout}
	defer client.CloseIdleConnections()
	q := url.Values{"q": {term}, "n": {strconv.Itoa(limit)}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, e.url.String()+"/v1/search?"+q.Encode(), http.NoBody)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", s.cfg.UserAgent)
	req.Header.Set("X-Docker-Token", "true")
	if creds != nil && creds.Username != "" {
		req.SetBasicAuth(creds.Username, creds.Password)
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer drain(resp)
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("Unexpected status code %d", resp.StatusCode)
	}
	var answer registry.SearchResults
	if err := json.NewDecoder(limited(resp.Body)).Decode(&answer); err != nil {
		return nil, fmt.Errorf("error decoding registry search results: %w", err)
	}
	return answer.Results, nil
}
