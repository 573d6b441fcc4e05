// Package nereid_test checks what holds for the tree as a whole: who may import whom, and that every package says
// in one sentence what it is for.
package nereid_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/nereid-paas/nereid"

type pkg struct {
	ImportPath   string
	Doc          string
	Imports      []string
	TestGoFiles  []string
	XTestGoFiles []string
	GoFiles      []string
}

// rooms are the import directions. A rule holds for the packages under its paths; only and never are import path
// prefixes, relative to the module unless they name a host.
var rooms = []struct {
	name   string
	in     []string
	except []string
	never  []string
	only   []string // of our own packages
	std    bool     // nothing but the standard library
}{
	{name: "nouns are a leaf", in: []string{"pkg/nereid"}, std: true},
	{name: "nothing imports api but cmd", in: []string{"pkg", "runtime", "cns", "scheduler"}, never: []string{"api"}},
	{name: "api knows its backends, not the engine", in: []string{"api"}, only: []string{"api", "pkg/nereid", "pkg/logs", "pkg/trace"}},
	{name: "runtime knows no state and no names", in: []string{"runtime"}, only: []string{"runtime", "pkg/nereid", "pkg/logs", "pkg/quota", "pkg/trace"}},
	{name: "cns knows the state only", in: []string{"cns"}, only: []string{"cns", "pkg/nereid", "pkg/state"}},
	{name: "the state knows nouns only", in: []string{"pkg/state"}, only: []string{"pkg/state", "pkg/nereid", "pkg/trace"}},
	{name: "one host's network knows records only", in: []string{"pkg/network"}, only: []string{"pkg/network", "pkg/nereid", "pkg/state", "pkg/trace"}},
	{name: "the scheduler is pure", in: []string{"scheduler"}, only: []string{"scheduler", "pkg/nereid"}},
	{
		name: "containerd's client stays in its rooms", in: []string{"pkg", "api", "cns", "scheduler", "cmd/nereid"}, except: []string{"pkg/image"},
		never: []string{"github.com/containerd/containerd/v2/client"},
	},
	{
		name: "the DNS library stays in its rooms", in: []string{"pkg", "api", "runtime", "scheduler", "cns/record", "cns/zone"}, except: []string{"pkg/network"},
		never: []string{"github.com/miekg/dns"},
	},
	{name: "etcd stays in the state", in: []string{"pkg", "api", "runtime", "cns", "scheduler", "cmd"}, except: []string{"pkg/state"}, never: []string{"go.etcd.io/etcd"}},
	{name: "memberlist stays in the gossip", in: []string{"pkg", "api", "runtime", "cns", "scheduler", "cmd"}, except: []string{"pkg/gossip"}, never: []string{"github.com/hashicorp/memberlist"}},
	{name: "traces know nothing", in: []string{"pkg/trace"}, only: []string{"pkg/trace"}},
	{name: "OpenTelemetry stays in the traces", in: []string{"pkg", "api", "runtime", "cns", "scheduler", "cmd/nereid"}, except: []string{"pkg/trace"}, never: []string{"go.opentelemetry.io"}},
	{name: "gossip knows nouns only", in: []string{"pkg/gossip"}, only: []string{"pkg/gossip", "pkg/nereid"}},
	{name: "the road between hosts knows nouns only", in: []string{"pkg/peer"}, only: []string{"pkg/peer", "pkg/nereid"}},
	{name: "netlink and nftables stay in the network", in: []string{"pkg", "api", "runtime", "cns", "scheduler", "cmd"}, except: []string{"pkg/network"}, never: []string{"github.com/vishvananda/netlink", "github.com/google/nftables"}},
}

func TestImportDirections(t *testing.T) {
	pkgs := list(t)
	for _, r := range rooms {
		t.Run(r.name, func(t *testing.T) {
			for _, p := range pkgs {
				rel := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
				if !under(rel, r.in) || under(rel, r.except) {
					continue
				}
				for _, imp := range p.Imports {
					if !allowed(imp, r.never, r.only, r.std) {
						t.Errorf("%s imports %s", rel, imp)
					}
				}
			}
		})
	}
}

// allowed tells whether an import keeps to a rule.
func allowed(imp string, never, only []string, std bool) bool {
	rel, ours := strings.CutPrefix(imp, module+"/")
	if std {
		return !strings.Contains(strings.Split(imp, "/")[0], ".")
	}
	if under(imp, never) || (ours && under(rel, never)) {
		return false
	}
	return !ours || only == nil || under(rel, only)
}

// under tells whether a path is one of the folders or lies below one.
func under(path string, folders []string) bool {
	return slices.ContainsFunc(folders, func(f string) bool { return path == f || strings.HasPrefix(path, f+"/") })
}

func TestAllowedSeesWhatIsForbidden(t *testing.T) {
	for _, c := range []struct {
		imp         string
		never, only []string
		std, want   bool
	}{
		{imp: "fmt", std: true, want: true},
		{imp: "github.com/x/y", std: true, want: false},
		{imp: module + "/api/server", never: []string{"api"}, want: false},
		{imp: module + "/apish", never: []string{"api"}, want: true},
		{imp: module + "/pkg/state", only: []string{"pkg/nereid"}, want: false},
		{imp: module + "/pkg/nereid", only: []string{"pkg/nereid"}, want: true},
		{imp: "go.etcd.io/etcd/client/v3", never: []string{"go.etcd.io/etcd"}, want: false},
	} {
		if got := allowed(c.imp, c.never, c.only, c.std); got != c.want {
			t.Errorf("allowed(%q, %v, %v, %v) = %v", c.imp, c.never, c.only, c.std, got)
		}
	}
}

// TestPackageSentences wants "Package x …" or, for commands, "Command x …" on every package, tests-only ones too.
func TestPackageSentences(t *testing.T) {
	for _, p := range list(t) {
		if len(p.GoFiles) == 0 {
			continue
		}
		words := strings.Fields(p.Doc)
		if len(words) < 4 || !slices.Contains([]string{"Package", "Command"}, words[0]) {
			t.Errorf("%s: no sentence says what it is for (doc: %q)", p.ImportPath, p.Doc)
		}
	}
}

// TestNoJunkDrawers refuses package names that say nothing.
func TestNoJunkDrawers(t *testing.T) {
	for _, p := range list(t) {
		last := p.ImportPath[strings.LastIndex(p.ImportPath, "/")+1:]
		if slices.Contains([]string{"util", "utils", "common", "helpers", "types", "misc"}, last) {
			t.Errorf("%s: a name that says nothing", p.ImportPath)
		}
	}
}

func list(t *testing.T) []pkg {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Doc,Imports,GoFiles,TestGoFiles,XTestGoFiles", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var pkgs []pkg
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}
