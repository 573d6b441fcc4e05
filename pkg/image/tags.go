package image

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// maxTags bounds the tags taken from a registry: more than any repository has, less than hurts.
const maxTags = 100_000

// Tags lists all tags of the repository, page by page.
func (r *Repository) Tags(ctx context.Context) ([]string, error) {
	var tags []string
	for next := r.url("tags/list"); next != ""; {
		page, following, err := r.tagPage(ctx, next)
		if err != nil {
			return nil, pullError(err, r.name)
		}
		if tags = append(tags, page...); len(tags) > maxTags {
			return nil, fmt.Errorf("repository %s has more than %d tags", r.name, maxTags)
		}
		next = following
	}
	return tags, nil
}

func (r *Repository) tagPage(ctx context.Context, page string) (tags []string, next string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, page, http.NoBody)
	if err != nil {
		return nil, "", err
	}
	resp, err := r.do(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, "", answerError(resp)
	}
	var list struct {
		Tags []string `json:"tags"`
	}
	if err := json.NewDecoder(limited(resp.Body)).Decode(&list); err != nil {
		return nil, "", fmt.Errorf("list tags of %s: %w", r.name, err)
	}
	return list.Tags, nextPage(req.URL, resp.Header.Get("Link")), nil
}

// nextPage reads `<URL>; rel="next"`. A link to another host is not followed: it would be sent our credentials.
func nextPage(from *url.URL, link string) string {
	target, _, ok := strings.Cut(strings.TrimPrefix(link, "<"), ">")
	if !ok || !strings.Contains(link, `rel="next"`) {
		return ""
	}
	u, err := from.Parse(target)
	if err != nil || u.Host != from.Host || u.String() == from.String() {
		return ""
	}
	return u.String()
}
