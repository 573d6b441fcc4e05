//go:build bench

package bench

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/poll"
)

const (
	dnsRounds  = 3                // each server is asked in turns
	dnsTime    = 10 * time.Second // each round
	dnsRecords = 14_000
	dnsZone    = "dc1.cns.internal."
)

// nameserver is one that is measured: one process, or one and its children, on one core.
type nameserver struct {
	name string
	port int
	zone string // the file of what it serves; the first server's
	cmd  *exec.Cmd
}

// asked is what one kind of questions came to.
type asked struct {
	perSecond float64
	cpu       float64 // microseconds of a core per answer
	client    float64 // of its core that dnsperf used
	lost      float64 // of the questions, how many had no answer in five seconds
}

// startServers starts name servers that have the same records, ours first and then CoreDNS, each on the first core. write
// makes a file for them.
func startServers(t *testing.T) (servers []*nameserver, write func(name, format string, args ...any) string) {
	t.Helper()
	dir := t.TempDir()
	zone := filepath.Join(dir, "zone")
	build(t, "./cnsserver", filepath.Join(dir, "cnsserver"))
	servers = []*nameserver{
		startServer(t, "nereid", 5301, filepath.Join(dir, "cnsserver"), "-listen", "127.0.0.1:5301", "-records", strconv.Itoa(dnsRecords), "-zone-file", zone),
	}
	servers[0].ready(t) // it has written the zone
	servers[0].zone = zone
	write = func(name, format string, args ...any) string {
		path := filepath.Join(dir, name)
		assert.NilError(t, os.WriteFile(path, fmt.Appendf(nil, format, args...), 0o600))
		return path
	}
	coredns, err := filepath.Abs("../../bin/coredns")
	assert.NilError(t, err)
	servers = append(servers,
		startServer(t, version(t, "CoreDNS", coredns, "-version"), 5302, coredns, "-quiet", "-conf",
			write("Corefile", "%s:5302 {\n  bind 127.0.0.1\n  file %s\n}\n", dnsZone, zone)),
		startServer(t, version(t, "NSD", "/usr/sbin/nsd", "-v"), 5303, "/usr/sbin/nsd", "-d", "-c", write("nsd.conf", `server:
  ip-address: 127.0.0.1@5303
  username: ""
  server-count: 1
  database: ""
  zonesdir: %[1]q
  pidfile: "%[1]s/pid"
  zonelistfile: "%[1]s/zonelist"
  xfrdfile: "%[1]s/xfrd.state"
  xfrdir: %[1]q
  rrl-ratelimit: 0
  rrl-whitelist-ratelimit: 0
remote-control:
  control-enable: no
zone:
  name: %[2]q
  zonefile: %[3]q
`, dir, dnsZone, zone)))
	for _, s := range servers {
		s.ready(t)
	}
	return servers, write
}

// TestBenchDNS asks name servers that have the same records the same questions: each server on one core, dnsperf on
// another.
func TestBenchDNS(t *testing.T) {
	servers, write := startServers(t)
	var table strings.Builder
	fmt.Fprintf(&table, "| questions | server | answers/s | ratio | µs of its core per answer | ratio | dnsperf's core | lost |\n|---|---|---|---|---|---|---|---|\n")
	for _, kind := range []string{"A", "all types, and one in ten for a name that is not there"} {
		results := measure(t, servers, write("queries", "%s", questions(t, servers[0].zone, kind == "A")), dnsRounds, dnsTime)
		for i, r := range results {
			fmt.Fprintf(&table, "| %s | %s | %.0f | %.2f | %.2f | %.2f | %.0f %% | %.1f %% |\n", kind, servers[i].name,
				r.perSecond, r.perSecond/results[1].perSecond, r.cpu, r.cpu/results[1].cpu, 100*r.client, 100*r.lost)
		}
		t.Logf("\n%s", table.String())
		assert.Check(t, results[0].perSecond >= 5*results[1].perSecond || results[0].cpu*5 <= results[1].cpu,
			"%s: %.0f/s is not 5 times CoreDNS's %.0f/s", kind, results[0].perSecond, results[1].perSecond)
	}
	keep(t, "bench-dns", fmt.Sprintf("%s, %d records, medians of %d rounds of %s in turns%s.\n\n%s", machine(), dnsRecords, dnsRounds, dnsTime, busy(), table.String()))
}

// busy says what else the machine did.
func busy() string {
	b, _ := os.ReadFile("/proc/loadavg")
	load, _, _ := strings.Cut(string(b), " ")
	return ", load " + load
}

func build(t *testing.T, what, to string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", to, what).CombinedOutput()
	assert.NilError(t, err, string(out))
}

// version is a server's name with the number its program prints.
func version(t *testing.T, name, program, flag string) string {
	t.Helper()
	out, _ := exec.CommandContext(t.Context(), program, flag).CombinedOutput() // NSD's fails
	return name + " " + regexp.MustCompile(`\d+\.\d+\.\d+`).FindString(string(out))
}

// startServer runs a server on the first core until the test ends.
func startServer(t *testing.T, name string, port int, program string, args ...string) *nameserver {
	t.Helper()
	s := &nameserver{name: name, port: port, cmd: exec.Command("taskset", append([]string{"-c", "0", program}, args...)...)}
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	assert.NilError(t, err)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	assert.NilError(t, s.cmd.Start())
	t.Cleanup(func() {
		_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGTERM)
		_ = s.cmd.Wait()
		if b, _ := os.ReadFile(log.Name()); t.Failed() {
			t.Logf("%s: %s", name, b)
		}
		log.Close()
	})
	return s
}

// ready waits until the server answers for the zone.
func (s *nameserver) ready(t *testing.T) {
	t.Helper()
	c := &dns.Client{Timeout: time.Second}
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		m, _, err := c.Exchange(new(dns.Msg).SetQuestion(dnsZone, dns.TypeSOA), net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)))
		if err != nil || len(m.Answer) != 1 {
			return poll.Continue("%s: %v %v", s.name, m, err)
		}
		return poll.Success()
	}, poll.WithTimeout(2*time.Minute))
}

// questions are dnsperf's: for each record its name and type, or for the A records alone.
func questions(t *testing.T, zone string, onlyA bool) string {
	t.Helper()
	b, err := os.ReadFile(zone)
	assert.NilError(t, err)
	all := map[string]bool{}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 5 || onlyA && f[3] != "A" || f[3] == "SOA" || f[3] == "NS" {
			continue
		}
		all[f[0]+" "+f[3]] = true
		if n := len(all); !onlyA && n%10 == 0 {
			all[fmt.Sprintf("nobody-%d.svc.admin.%s A", n, dnsZone)] = true
		}
	}
	var out strings.Builder
	for q := range all { // in no order
		fmt.Fprintln(&out, q)
	}
	return out.String()
}

// measure asks each server in turns, so many rounds of so long, and returns the medians.
func measure(t *testing.T, servers []*nameserver, queries string, turns int, each time.Duration) []asked {
	t.Helper()
	rounds := make([][]asked, len(servers))
	for range turns {
		for i, s := range servers {
			rounds[i] = append(rounds[i], s.ask(t, queries, each))
		}
	}
	medians := make([]asked, len(servers))
	for i, r := range rounds {
		of := func(f func(asked) float64) float64 {
			v := make([]float64, len(r))
			for j := range r {
				v[j] = f(r[j])
			}
			slices.Sort(v)
			return v[len(v)/2]
		}
		medians[i] = asked{of(func(a asked) float64 { return a.perSecond }), of(func(a asked) float64 { return a.cpu }), of(func(a asked) float64 { return a.client }),
			of(func(a asked) float64 { return a.lost })}
	}
	return medians
}

// ask runs dnsperf on the second core.
func (s *nameserver) ask(t *testing.T, queries string, each time.Duration) asked {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), each+time.Minute)
	defer cancel()
	before, begin := s.cpu(t), time.Now()
	cmd := exec.CommandContext(ctx, "taskset", "-c", "1", "dnsperf", "-s", "127.0.0.1", "-p", strconv.Itoa(s.port), "-d", queries,
		"-l", strconv.Itoa(int(each.Seconds())), "-c", "8", "-q", "400")
	out, err := cmd.CombinedOutput()
	assert.NilError(t, err, string(out))
	took, used := time.Since(begin), s.cpu(t)-before
	number := func(what string) float64 {
		m := regexp.MustCompile(what + `:\s+([0-9.]+)`).FindStringSubmatch(string(out))
		assert.Assert(t, len(m) == 2, "%s: %s", what, out)
		v, err := strconv.ParseFloat(m[1], 64)
		assert.NilError(t, err)
		return v
	}
	completed := number("Queries completed")
	assert.Assert(t, strings.Contains(string(out), "NOERROR"), "%s: %s", s.name, out)
	client := (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds() / took.Seconds()
	return asked{perSecond: number("Queries per second"), cpu: float64(used.Microseconds()) / completed, client: client,
		lost: 1 - completed/number("Queries sent")}
}

// cpu is the time that the server's processes have run.
func (s *nameserver) cpu(t *testing.T) (sum time.Duration) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	assert.NilError(t, err)
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // it has gone
		}
		_, rest, _ := strings.Cut(string(b), ") ")
		f := strings.Fields(rest)
		if len(f) < 13 || f[2] != strconv.Itoa(s.cmd.Process.Pid) { // its process group
			continue
		}
		for _, ticks := range f[11:13] { // user and system, in hundredths of a second
			n, _ := strconv.Atoi(ticks)
			sum += time.Duration(n) * 10 * time.Millisecond
		}
	}
	return sum
}
