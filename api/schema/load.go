// Package schema checks real answers of the API against the swagger file that the Docker Engine is documented with.
// It is for tests.
package schema

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi2"
	"github.com/getkin/kin-openapi/openapi2conv"
	"github.com/getkin/kin-openapi/openapi3"
	"github.com/oasdiff/yaml"
)

// engine is the module whose file is checked against, at the version that go.mod requires.
const engine = "github.com/docker/docker"

// Validator knows every operation of the file. It may be used from several goroutines at once.
type Validator struct {
	routes []route // the more literal a path, the earlier
}

// route is one path of the file.
type route struct {
	path  string
	match *regexp.Regexp
	item  *openapi3.PathItem
}

// Load reads the file from the module cache. The go command must be on PATH, and the caller somewhere in this module.
func Load() (*Validator, error) {
	out, err := exec.CommandContext(context.Background(), "go", "list", "-m", "-f", "{{.Dir}}", engine).Output()
	if err != nil {
		return nil, fmt.Errorf("finding module %s: %w", engine, err)
	}
	path := filepath.Join(strings.TrimSpace(string(out)), "api", "swagger.yaml")
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	v, err := parse(raw)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return v, nil
}

func parse(raw []byte) (*Validator, error) {
	asJSON, err := yaml.YAMLToJSON(raw)
	if err != nil {
		return nil, err
	}
	var two openapi2.T
	if err := json.Unmarshal(asJSON, &two); err != nil {
		return nil, err
	}
	three, err := openapi2conv.ToV3(&two)
	if err != nil {
		return nil, err
	}
	v := &Validator{}
	for path, item := range three.Paths.Map() {
		v.routes = append(v.routes, route{path: path, match: pattern(path), item: item})
	}
	if len(v.routes) == 0 {
		return nil, errors.New("no paths in it")
	}
	slices.SortFunc(v.routes, func(a, b route) int {
		if n := strings.Count(a.path, "{") - strings.Count(b.path, "{"); n != 0 {
			return n
		}
		return strings.Compare(b.path, a.path)
	})
	for _, s := range schemas(three) {
		loosen(s)
	}
	return v, nil
}

var variable = regexp.MustCompile(`\\{[^}]*\\}`)

// pattern matches a path with and without a version. Names may have slashes in them.
func pattern(path string) *regexp.Regexp {
	return regexp.MustCompile(`^(?:/v[0-9.]+)?` + variable.ReplaceAllString(regexp.QuoteMeta(path), `(.+)`) + `$`)
}

// loosen lets a schema pass what the engine really sends. Swagger 2 has no word for null, and Go writes it for every
// list, map and pointer without a value; the file says x-nullable in some places and nothing in most.
func loosen(s *openapi3.Schema) {
	if s.Type.Is(openapi3.TypeArray) || s.Type.Is(openapi3.TypeObject) || s.Type == nil {
		s.Nullable = true
	}
	for _, name := range misnamed {
		if _, has := s.Properties[name]; !has {
			s.Required = slices.DeleteFunc(s.Required, func(r string) bool { return r == name })
		}
	}
	for name, p := range s.Properties {
		beside, ok := pointers[name]
		if _, inType := s.Properties[beside]; ok && inType && p.Value != nil {
			own := *p.Value // numbers elsewhere share the schema
			own.Nullable = true
			s.Properties[name] = &openapi3.SchemaRef{Value: &own}
		}
	}
}

// pointers are numbers and flags that the engine holds by pointer and always writes, each with another property of the
// type it is so in: null is "not set" of resources, and "still runs" of an exec.
var pointers = map[string]string{"MemorySwappiness": "CpuShares", "OomKillDisable": "CpuShares", "ExitCode": "ProcessConfig"}

// misnamed are properties that the file requires of types which it gives no such property: the engine sends an image's
// unpacked size as Size.Unpacked, which is required beside it.
var misnamed = []string{"UnpackedSize"}

// schemas collects every schema of the document, each once.
func schemas(doc *openapi3.T) []*openapi3.Schema {
	w := &walker{seen: map[*openapi3.Schema]bool{}}
	for _, ref := range doc.Components.Schemas {
		w.visit(ref)
	}
	for _, item := range doc.Paths.Map() {
		for _, op := range item.Operations() {
			for _, resp := range op.Responses.Map() {
				if resp.Value == nil {
					continue
				}
				for _, media := range resp.Value.Content {
					w.visit(media.Schema)
				}
			}
		}
	}
	return w.all
}

type walker struct {
	seen map[*openapi3.Schema]bool
	all  []*openapi3.Schema
}

func (w *walker) visit(ref *openapi3.SchemaRef) {
	if ref == nil || ref.Value == nil || w.seen[ref.Value] {
		return
	}
	s := ref.Value
	w.seen[s] = true
	w.all = append(w.all, s)
	w.visit(s.Items)
	w.visit(s.AdditionalProperties.Schema)
	for _, p := range s.Properties {
		w.visit(p)
	}
	for _, list := range []openapi3.SchemaRefs{s.AllOf, s.AnyOf, s.OneOf} {
		for _, sub := range list {
			w.visit(sub)
		}
	}
}
