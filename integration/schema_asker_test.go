//go:build integration

package integration

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/api/schema"
	"github.com/nereid-paas/nereid/integration/lab"
)

// asker asks a running daemon and holds every answer against the swagger file.
type asker struct {
	t      *testing.T
	host   *lab.Host
	client *http.Client
	file   *schema.Validator
	asked  map[string]bool // operation → whether an answer to it was a success
	absent map[string]bool // operations of which an answer was 501
	began  int64           // seconds since 1970
}

// in is the asker whose questions belong to a part of the test.
func (a asker) in(t *testing.T) *asker {
	t.Helper()
	a.t = t
	return &a
}

// api is the version the file is of.
const api = "/v1.51"

func newAsker(t *testing.T, h *lab.Host) *asker {
	t.Helper()
	file, err := schema.Load()
	assert.NilError(t, err)
	return &asker{t: t, host: h, client: h.Client(), file: file, asked: map[string]bool{}, absent: map[string]bool{}, began: time.Now().Unix()}
}

// question is one request. A body is sent as it is when it is text or bytes, else as JSON.
type question struct {
	line   string // method and path, with the query, without a version
	body   any
	header map[string]string
}

// answer is what came of it.
type answer struct {
	header http.Header
	body   []byte
}

// into reads a JSON body.
func (r answer) into(t *testing.T, v any) {
	t.Helper()
	assert.NilError(t, json.Unmarshal(r.body, v), "%s", r.body)
}

// ask wants a status, and an answer as the file says.
func (a *asker) ask(status int, line string, body ...any) answer {
	a.t.Helper()
	q := question{line: line}
	if len(body) > 0 {
		q.body = body[0]
	}
	return a.put(status, q)
}

// put is ask for questions with headers.
func (a *asker) put(status int, q question) answer {
	a.t.Helper()
	method, path, _ := strings.Cut(q.line, " ")
	path = api + path
	got, r := a.do(method, path, q)
	if got != status {
		a.t.Errorf("%s: status %d, not %d: %.300s", q.line, got, status, r.body)
	}
	op, err := a.file.Operation(method, path)
	if err != nil {
		a.t.Error(err)
		return r
	}
	a.asked[op] = a.asked[op] || got < http.StatusBadRequest
	if got == http.StatusNotImplemented {
		a.absent[op] = true
	}
	if err := a.file.Check(method, path, got, r.header.Get("Content-Type"), r.body); err != nil {
		a.t.Error(err)
	}
	return r
}

// do sends a request and reads all of the answer. Nothing an engine answers here takes longer than the time-out.
func (a *asker) do(method, path string, q question) (int, answer) {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), 2*time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://nereid"+path, content(a.t, q.body))
	assert.NilError(a.t, err)
	if q.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for k, v := range q.header {
		req.Header.Set(k, v)
	}
	res, err := a.client.Do(req)
	assert.NilError(a.t, err)
	defer res.Body.Close()
	if req.Header.Get("Upgrade") == "websocket" && res.StatusCode == http.StatusSwitchingProtocols {
		return res.StatusCode, answer{header: res.Header} // frames, until one of us hangs up
	}
	b, err := io.ReadAll(res.Body)
	assert.NilError(a.t, err, q.line)
	return res.StatusCode, answer{header: res.Header, body: b}
}

func content(t *testing.T, body any) io.Reader {
	t.Helper()
	switch b := body.(type) {
	case nil:
		return http.NoBody
	case string:
		return strings.NewReader(b)
	case []byte:
		return bytes.NewReader(b)
	default:
		raw, err := json.Marshal(b)
		assert.NilError(t, err)
		return bytes.NewReader(raw)
	}
}

// progress is put for what answers 200 and then tells in the stream how it went.
func (a *asker) progress(q question) {
	a.t.Helper()
	dec := json.NewDecoder(bytes.NewReader(a.put(http.StatusOK, q).body))
	for dec.More() {
		var line struct{ Error string }
		assert.NilError(a.t, dec.Decode(&line), q.line)
		if line.Error != "" {
			a.t.Errorf("%s: %s", q.line, line.Error)
		}
	}
}

// silent are the operations that were not asked, or none of whose answers was a success though one should have been.
func (a *asker) silent(refused map[string]string) (left []string) {
	for _, op := range a.file.Operations() {
		success, asked := a.asked[op]
		if _, ok := refused[op]; !asked || success == ok {
			left = append(left, op)
		}
	}
	return left
}

// object is a JSON object to send.
type object map[string]any

// query writes name=value pairs; a value that is no text is written as JSON, as filters are.
func query(pairs ...any) string {
	v := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		text, ok := pairs[i+1].(string)
		if !ok {
			b, _ := json.Marshal(pairs[i+1])
			text = string(b)
		}
		v.Add(pairs[i].(string), text)
	}
	return "?" + v.Encode()
}

// filter is the query for one filter.
func filter(name string, values ...string) string {
	return query("filters", map[string][]string{name: values})
}

// registryAuth is the header with the credentials for a registry.
func registryAuth(user, password string) map[string]string {
	b, _ := json.Marshal(object{"username": user, "password": password})
	return map[string]string{"X-Registry-Auth": base64.URLEncoding.EncodeToString(b)}
}
