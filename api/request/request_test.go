package request

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"
)

func post(body, contentType string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
	r.Header.Set("Content-Type", contentType)
	return r
}

func TestJSON(t *testing.T) {
	for name, tc := range map[string]struct {
		body, contentType, want string
	}{
		"fine":               {`{"Name":"x"}`, "application/json", ""},
		"charset":            {`{"Name":"x"}`, "application/json; charset=utf-8", ""},
		"space around":       {"\n {\"Name\":\"x\"}\n\n", "application/json", ""},
		"unknown fields":     {`{"Name":"x","Other":1}`, "application/json", ""},
		"text":               {`{"Name":"x"}`, "text/plain", "unsupported Content-Type header (text/plain): must be 'application/json'"},
		"no type":            {`{"Name":"x"}`, "", "malformed Content-Type header (): mime: no media type"},
		"broken type":        {`{"Name":"x"}`, "foo;;;bar", "malformed Content-Type header (foo;;;bar): mime: invalid media parameter"},
		"not JSON":           {"{invalid", "application/json", "invalid JSON: invalid character 'i' looking for beginning of object key string"},
		"wrong type":         {`{"Name":1}`, "application/json", "invalid JSON: json: cannot unmarshal number into Go struct field .Name of type string"},
		"cut short":          {`{"Name":`, "application/json", "invalid JSON: unexpected EOF"},
		"only space":         {"   ", "application/json", "invalid JSON: got EOF while reading request body"},
		"more behind":        {`{"Name":"x"} and more`, "application/json", "unexpected content after JSON"},
		"two values":         {`{"Name":"x"}{}`, "application/json", "unexpected content after JSON"},
		"too large":          {`{"Name":"` + strings.Repeat("x", MaxBody) + `"}`, "application/json", "invalid JSON: the request body is larger than 16777216 bytes"},
		"as large as can be": {`{"Name":"x","Other":"` + strings.Repeat("x", MaxBody-23) + `"}`, "application/json", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var out struct{ Name string }
			err := JSON(post(tc.body, tc.contentType), &out)
			if tc.want == "" {
				assert.NilError(t, err)
				assert.Equal(t, out.Name, "x")
				return
			}
			assert.Error(t, err, tc.want)
			assert.Assert(t, errdefs.IsInvalidArgument(err))
		})
	}
	out := struct{ Name string }{"as it was"}
	assert.NilError(t, JSON(httptest.NewRequest(http.MethodPost, "/", nil), &out))
	assert.Equal(t, out.Name, "as it was")
}

func TestBool(t *testing.T) {
	for value, want := range map[string]bool{
		"": false, "0": false, "no": false, "False": false, "NONE": false, " false ": false,
		"1": true, "true": true, "yes": true, "one": true, "100": true, "x": true,
	} {
		r := httptest.NewRequest(http.MethodGet, "/?b="+strings.ReplaceAll(value, " ", "+"), nil)
		assert.NilError(t, Parse(r))
		assert.Check(t, cmp.Equal(Bool(r, "b"), want), value)
		assert.Check(t, cmp.Equal(BoolOr(r, "b", true), want), value)
		assert.Check(t, BoolOr(r, "other", true))
	}
}

func TestParseRefusesABrokenQuery(t *testing.T) {
	err := Parse(httptest.NewRequest(http.MethodGet, "/?a=%zz", nil))
	assert.Assert(t, errdefs.IsInvalidArgument(err))
	assert.Error(t, err, `invalid URL escape "%zz"`)
	assert.NilError(t, Parse(post("x", "foo;;;bar"))) // a content type is not the query's business
}

func TestSize(t *testing.T) {
	for query, want := range map[string]string{
		"h=24&w=80":             "",
		"h=0&w=4294967295":      "",
		"w=80":                  `invalid resize height "": invalid syntax`,
		"h=24":                  `invalid resize width "": invalid syntax`,
		"h=-1&w=80":             `invalid resize height "-1": value out of range`,
		"h=4294967296&w=80":     `invalid resize height "4294967296": value out of range`,
		"h=24&w=wide":           `invalid resize width "wide": invalid syntax`,
		"h=%2B24&w=80":          `invalid resize height "+24": invalid syntax`,
		"h=-99999999999999&w=0": `invalid resize height "-99999999999999": value out of range`,
	} {
		r := httptest.NewRequest(http.MethodPost, "/?"+query, nil)
		assert.NilError(t, Parse(r))
		_, _, err := Size(r)
		if want == "" {
			assert.Check(t, err, query)
			continue
		}
		assert.Check(t, cmp.Error(err, want), query)
		assert.Check(t, errdefs.IsInvalidArgument(err))
	}
}

func TestFilters(t *testing.T) {
	for in, want := range map[string]map[string][]string{
		"":                              {},
		"{}":                            {},
		"null":                          {},
		`{"name":{"a":true}}`:           {"name": {"a"}},
		`{"name":["a"]}`:                {"name": {"a"}}, // before API 1.22
		`{"name":{"a":false}}`:          {"name": {"a"}},
		`{"name":null,"id":{"x":true}}`: {"name": {}, "id": {"x"}},
		`{"name":{}}`:                   {"name": {}},
	} {
		args, err := ParseFilters(in)
		assert.NilError(t, err, in)
		got := map[string][]string{}
		for _, k := range args.Keys() {
			got[k] = args.Get(k)
			args.Add(k, "more") // must not panic
		}
		assert.DeepEqual(t, got, want)
	}
	for _, in := range []string{"x", "[]", `{"a":1}`, `{"a":{"b":1}}`, `{"a":["b",1]}`, `"`} {
		_, err := ParseFilters(in)
		assert.Check(t, cmp.Error(err, "invalid filter"), in)
		assert.Check(t, errdefs.IsInvalidArgument(err), in)
	}
}

func TestReferences(t *testing.T) {
	for in, want := range map[[2]string]string{
		{"busybox", ""}:                  "docker.io/library/busybox:latest",
		{"busybox", "1.36"}:              "docker.io/library/busybox:1.36",
		{"busybox:1.36", ""}:             "docker.io/library/busybox:1.36",
		{"busybox:1.36", "other"}:        "docker.io/library/busybox:other",
		{"localhost:5000/a/b", "x"}:      "localhost:5000/a/b:x",
		{"", "x"}:                        "",
		{"BUSYBOX", ""}:                  "error: invalid reference format: repository name (library/BUSYBOX) must be lowercase",
		{"busybox", "a b"}:               "error: invalid tag format",
		{"busybox@sha256:" + zeros, ""}:  "error: cannot import digest reference",
		{"busybox@sha256:" + zeros, "x"}: "error: cannot import digest reference",
	} {
		ref, err := RepoTag(in[0], in[1])
		got := ""
		if ref != nil {
			got = ref.String()
		}
		if err != nil {
			assert.Check(t, errdefs.IsInvalidArgument(err))
			got = "error: " + err.Error()
		}
		assert.Check(t, cmp.Equal(got, want), in)
	}
	for in, want := range map[[2]string]string{
		{"busybox", ""}:                          "docker.io/library/busybox",
		{"busybox:", ""}:                         "docker.io/library/busybox", // pull -a
		{"busybox", "latest"}:                    "docker.io/library/busybox:latest",
		{"busybox:1", "sha256:" + zeros}:         "docker.io/library/busybox@sha256:" + zeros,
		{"busybox@sha256:" + zeros, ""}:          "docker.io/library/busybox@sha256:" + zeros,
		{"a//b", ""}:                             "error: invalid reference format",
		{"busybox", "@"}:                         "error: invalid tag format",
		{strings.Repeat("a", 300), ""}:           "error: repository name must not be more than 255 characters",
		{"busybox", strings.Repeat("a", 200)}:    "error: invalid tag format",
		{"busybox\xff", ""}:                      "error: invalid reference format: repository name (library/busybox\xff) must be lowercase",
		{"registry.example/x:80/y", "sha256:00"}: "error: invalid reference format",
	} {
		ref, err := Pulled(in[0], in[1])
		got := ""
		if ref != nil {
			got = ref.String()
		}
		if err != nil {
			assert.Check(t, errdefs.IsInvalidArgument(err))
			got = "error: " + err.Error()
		}
		assert.Check(t, cmp.Equal(got, want), in)
	}
}

var zeros = strings.Repeat("0", 64)

func TestPlatforms(t *testing.T) {
	p, err := Platform("linux/arm64/v8")
	assert.NilError(t, err)
	assert.Equal(t, p.Architecture, "arm64")
	p, err = Platform("")
	assert.Assert(t, err == nil && p == nil)
	_, err = Platform("a/b/c/d")
	assert.Assert(t, errdefs.IsInvalidArgument(err))
	for in, want := range map[string]string{
		`{"os":"linux","architecture":"amd64"}`: "",
		`{"os":"linux"}`:                        "both OS and Architecture must be provided",
		`{}`:                                    "both OS and Architecture must be provided",
		`{"variant":"v8"}`:                      "optional platform fields provided, but OS and Architecture are missing",
		`x`:                                     "failed to parse platform: invalid character 'x' looking for beginning of value",
	} {
		_, err := PlatformJSON(in)
		if want == "" {
			assert.Check(t, err)
			continue
		}
		assert.Check(t, cmp.Error(err, want), in)
		assert.Check(t, errdefs.IsInvalidArgument(err))
	}
	all, err := PlatformsJSON([]string{`{"os":"linux","architecture":"amd64"}`, `{"os":"linux","architecture":"arm64"}`})
	assert.NilError(t, err)
	assert.Equal(t, len(all), 2)
	_, err = PlatformsJSON([]string{""})
	assert.Assert(t, errdefs.IsInvalidArgument(err))
}

func TestAuth(t *testing.T) {
	r := httptest.NewRequest(http.MethodPost, "/", nil)
	assert.Equal(t, Auth(r).Username, "")
	r.Header.Set("X-Registry-Auth", "eyJ1c2VybmFtZSI6ImEiLCJwYXNzd29yZCI6ImIifQ==")
	assert.Equal(t, Auth(r).Username, "a")
	for _, broken := range []string{"!", "e30", "bnVsbA=="} { // none is as good as an unreadable one
		r.Header.Set("X-Registry-Auth", broken)
		assert.Equal(t, Auth(r).Username, "")
	}
}

func TestTime(t *testing.T) {
	for in, want := range map[string]time.Time{
		"":                     {},
		"0":                    time.Unix(0, 0),
		"1136073600":           time.Unix(1136073600, 0),
		"1136073600.000000001": time.Unix(1136073600, 1),
		"1136073600.5":         time.Unix(1136073600, 500_000_000),
	} {
		got, err := Time(in)
		assert.NilError(t, err)
		assert.Check(t, got.Equal(want), in)
	}
	for _, in := range []string{"now", "2006-01-02", "1.x", "1e9"} {
		_, err := Time(in)
		assert.Check(t, err != nil, in)
	}
}

func TestArchive(t *testing.T) {
	_, _, err := Archive(httptest.NewRequest(http.MethodGet, "/?path=/x", nil))
	assert.Error(t, err, "bad parameter: namecannot be empty") // Docker's words, its missing space too
	assert.Assert(t, errdefs.IsInvalidArgument(err))
}

func FuzzJSON(f *testing.F) {
	for _, s := range []string{`{}`, `{"Hostname":"x","HostConfig":{"Binds":null}}`, "null", "[]", `{"Env":["a"]} x`, "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		var req container.CreateRequest
		err := JSON(post(body, "application/json"), &req)
		if err != nil && !errdefs.IsInvalidArgument(err) {
			t.Fatalf("the fault is the client's: %v", err)
		}
		if err == nil && body != "" && !json.Valid([]byte(body)) && !trailing(body) {
			t.Fatalf("taken for JSON: %q", body)
		}
	})
}

// trailing tells that a body is one JSON value and then only a bracket, which the decoder does not count as more.
func trailing(body string) bool {
	dec := json.NewDecoder(strings.NewReader(body))
	var v any
	if dec.Decode(&v) != nil {
		return false
	}
	rest, _ := io.ReadAll(dec.Buffered())
	rest = []byte(strings.TrimLeft(string(rest), " \t\r\n"))
	return len(rest) > 0 && (rest[0] == ']' || rest[0] == '}')
}

func FuzzFilters(f *testing.F) {
	for _, s := range []string{`{}`, `{"a":{"b":true}}`, `{"a":["b"]}`, "null", `{"a":null}`, "[", `{"":{"":true}}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		args, err := ParseFilters(s)
		if err != nil && !errdefs.IsInvalidArgument(err) {
			t.Fatalf("the fault is the client's: %v", err)
		}
		for _, k := range args.Keys() {
			args.Add(k, "x")
			args.MatchKVList(k, map[string]string{"x": ""})
		}
	})
}

func FuzzReferences(f *testing.F) {
	f.Add("busybox", "latest")
	f.Add("localhost:5000/a@sha256:"+zeros, "sha256:"+zeros)
	f.Fuzz(func(t *testing.T, name, tag string) {
		if ref, err := Pulled(name, tag); err == nil {
			if again, err := Pulled(ref.String(), ""); err != nil || again.String() != ref.String() {
				t.Fatalf("%q is read as %q, which is not read as itself: %v", name, ref, err)
			}
		}
		_, err := RepoTag(name, tag)
		if err != nil && (!errdefs.IsInvalidArgument(err) || errors.Is(err, errdefs.ErrInternal)) {
			t.Fatalf("the fault is the client's: %v", err)
		}
	})
}
