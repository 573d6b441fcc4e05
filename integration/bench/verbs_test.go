//go:build bench

package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
)

// untilTerm is a shell that ends as soon as it is told to.
const untilTerm = "trap 'exit 0' TERM; while :; do sleep 0.1 & wait $!; done"

// verbs are measured in this order, each time; some prepare the next. An empty name is not measured.
var verbs = []struct{ name, args string }{
	{"create", "create --name made busybox sh -c"}, // and untilTerm
	{"start", "start made"},
	{"exec", "exec runs true"},
	{"exec -d", "exec -d runs true"},
	{"top", "top runs"},
	{"pause", "pause made"},
	{"unpause", "unpause made"},
	{"restart", "restart made"},
	{"stop", "stop made"},
	{"rm", "rm made"},
	{"logs of 1,000 lines", "logs wrote"},
	{"cp of a file in", "cp %s runs:/tmp/small"},
	{"cp of it out", "cp runs:/tmp/small %s"},
	{"diff", "diff runs"},
	{"rename", "rename wrote writes"},
	{"", "rename writes wrote"},
	{"update", "update --memory-reservation 20m wrote"},
	{"network create", "network create blue"},
	{"network connect", "network connect blue runs"},
	{"network disconnect", "network disconnect blue runs"},
	{"network rm", "network rm blue"},
	{"volume create", "volume create data"},
	{"run -v", "run --rm -v data:/d busybox true"},
	{"volume rm", "volume rm data"},
	{"run -p", "run --rm -p 127.0.0.1:18099:80 busybox true"},
	{"run --init", "run --rm --init busybox true"},
	{"commit", "commit runs made"},
	{"tag", "tag busybox tagged"},
	{"rmi", "rmi made tagged"},
	{"ps -a", "ps -a"},
	{"images", "images"},
	{"info", "info"},
	{"events of the past", "events --since 1 --until 2"},
	{"system df", "system df"},
}

// TestVerbs measures what people type all day.
func TestVerbs(t *testing.T) {
	both := []engine{startNereid(t), startDocker(t)}
	small := filepath.Join(t.TempDir(), "small")
	assert.NilError(t, os.WriteFile(small, make([]byte, 1000), 0o600))
	for _, e := range both {
		e.docker(t, "run", "-d", "--name", "runs", "busybox", "sleep", "3600")
		e.docker(t, "run", "--name", "wrote", "busybox", "seq", "1000")
	}
	took := make([][2][]float64, len(verbs))
	for round := range rounds + 1 {
		for i, v := range verbs {
			args := strings.Fields(strings.ReplaceAll(v.args, "%s", small))
			if v.name == "create" {
				args = append(args, untilTerm)
			}
			for k, e := range both {
				if ms := timed(func() { e.docker(t, args...) }); round > 0 {
					took[i][k] = append(took[i][k], ms)
				}
			}
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s, medians of %d rounds in turns%s.\n\n| docker … | nereid, ms | docker.io %s, ms | ratio |\n|---|---|---|---|\n",
		machine(), rounds, busy(), both[1].docker(t, "version", "-f", "{{.Server.Version}}"))
	for i, v := range verbs {
		if v.name == "" {
			continue
		}
		slices.Sort(took[i][0])
		slices.Sort(took[i][1])
		ours, theirs := took[i][0][rounds/2], took[i][1][rounds/2]
		fmt.Fprintf(&b, "| %s | %.1f | %.1f | %.2f |\n", v.name, ours, theirs, ours/theirs)
	}
	fmt.Println(b.String())
	keep(t, "verbs", b.String())
}
