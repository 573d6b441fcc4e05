//go:build bench

package bench

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/poll"

	"github.com/nereid-paas/nereid/integration/lab"
)

const (
	namesHosts = 3
	lookEvery  = time.Millisecond // how often each host is asked
	nameLimit  = 2 * time.Minute  // for any change to come
)

// trials is a number from the environment: TRIALS of starts and exits, DEATHS of hosts, which take the time of a return each.
func trials(t *testing.T, name string, otherwise int) int {
	t.Helper()
	n, err := strconv.Atoi(os.Getenv(name))
	if err != nil {
		return otherwise
	}
	return n
}

// onlooker asks one host for one name, again and again, from another machine, and has the host itself knock where the name is.
type onlooker struct {
	conn net.Conn
	dial func(ctx context.Context, network, addr string) (net.Conn, error) // from the host

	mu      sync.Mutex
	name    string
	state   string // "there", or the code of the answer; empty: none came
	since   time.Time
	reached time.Time // zero: it did not take a connection yet
}

// startNames starts a fleet whose hosts are asked for names all the time, with a container of each host, c0 and so on.
func startNames(t *testing.T) (*lab.Fleet, []*onlooker) {
	t.Helper()
	f := lab.NewFleet(t, lab.FleetOptions{Hosts: namesHosts, Args: []string{"--cns-listen", "0.0.0.0:53"}})
	f.Hosts[0].Load(t, "busybox:latest", lab.Busybox(t))
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	t.Cleanup(func() { stop(); wg.Wait() })
	var all []*onlooker
	for _, h := range f.Hosts {
		o := &onlooker{conn: h.DialOutside(t, h.Addr+":53"), dial: h.Transport().(*http.Transport).DialContext}
		all = append(all, o)
		wg.Go(func() { o.run(ctx) })
	}
	for i, h := range f.Hosts {
		h.Docker(t, "create", "--name", fmt.Sprint("c", i), "--restart", "no", "-e", "constraint:node=="+h.Name, "busybox", "sh", "-c", "cat /proc/uptime; exec httpd -f -p 80")
	}
	return f, all
}

// startsAndExits are how long containers took to be named on every host, to take a connection from every host that saw the
// name, and to be gone from every host, in milliseconds.
func startsAndExits(t *testing.T, f *lab.Fleet, all []*onlooker, n int) (started, reached, exited []float64) {
	t.Helper()
	for i := range n {
		owner, name := f.Hosts[i%namesHosts], fmt.Sprint("c", i%namesHosts)
		look(all, name)
		await(t, all, "NXDOMAIN")
		asked := f.Hosts[(i+1)%namesHosts]
		asked.Docker(t, "start", name)
		there := await(t, all, "there")
		start := began(t, owner, name, i/namesHosts+1)
		started = append(started, there.Sub(start).Seconds()*1000)
		reached = append(reached, awaitReached(t, all).Sub(start).Seconds()*1000)
		pid, err := strconv.Atoi(strings.TrimSpace(owner.Docker(t, "inspect", "-f", "{{.State.Pid}}", name)))
		assert.NilError(t, err)
		died := time.Now()
		assert.NilError(t, syscall.Kill(pid, syscall.SIGKILL))
		exited = append(exited, await(t, all, "NXDOMAIN").Sub(died).Seconds()*1000)
	}
	return started, reached, exited
}

// hostDeaths are how long what the last host runs took to be hidden on the others when it died, in milliseconds.
func hostDeaths(t *testing.T, f *lab.Fleet, all []*onlooker, n int) (lost []float64) {
	t.Helper()
	last := f.Hosts[namesHosts-1]
	for range n {
		name := fmt.Sprint("c", namesHosts-1)
		look(all, name)
		f.Hosts[0].Docker(t, "start", name)
		await(t, all, "there")
		died := time.Now()
		f.KillHost(t, last)
		lost = append(lost, await(t, all[:namesHosts-1], "SERVFAIL").Sub(died).Seconds()*1000)
		f.MendLink(t, last)
		assert.NilError(t, last.Launch(t))
		await(t, all, "NXDOMAIN") // it knows that the container died with it
		poll.WaitOn(t, func(poll.LogT) poll.Result {
			if !last.Answers() {
				return poll.Continue("the host is starting")
			}
			return poll.Success()
		}, poll.WithTimeout(nameLimit))
	}
	return lost
}

// TestBenchNames measures on a fleet how long names take to be on every host and to be gone from every host: when a
// container starts, until it takes connections from every host, when its process dies, when its host dies.
func TestBenchNames(t *testing.T) {
	f, all := startNames(t)
	started, reached, exited := startsAndExits(t, f, all, trials(t, "TRIALS", 200))
	lost := hostDeaths(t, f, all, trials(t, "DEATHS", 20))
	var table strings.Builder
	fmt.Fprintf(&table, "| on every host of %d | trials | p50 | p99 | slowest | target | met |\n|---|---|---|---|---|---|---|\n", namesHosts)
	for _, row := range []struct {
		what   string
		times  []float64
		target float64
	}{
		{"container started → its name is there", started, 100},
		{"container started → its name is there, and it takes connections", reached, 100},
		{"process died → its name is gone", exited, 100},
		{"host died → what it ran is hidden", lost, 3000},
	} {
		if len(row.times) == 0 {
			continue
		}
		p := func(q float64) float64 { return slowestPart(row.times, q) }
		met := map[bool]string{true: "yes", false: "no"}[p(0.99) < row.target]
		fmt.Fprintf(&table, "| %s | %d | %.0f ms | %.0f ms | %.0f ms | p99 < %.0f ms | %s |\n", row.what, len(row.times), p(0.5), p(0.99), p(1), row.target, met)
	}
	t.Logf("\n%s", table.String())
	keep(t, "bench-names", machine()+busy()+".\n\n"+table.String())
}

// began is when a container's process ran for the n-th time: it has said what the machine's uptime was then, to a
// hundredth of a second.
func began(t *testing.T, h *lab.Host, name string, n int) (at time.Time) {
	t.Helper()
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		said := strings.Split(strings.TrimSpace(h.Docker(t, "logs", name)), "\n")
		if len(said) < n {
			return poll.Continue("%s has not said when it began", name)
		}
		var then float64
		if _, err := fmt.Sscan(said[n-1], &then); err != nil {
			return poll.Error(err)
		}
		var now unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
			return poll.Error(err)
		}
		at = time.Now().Add(-time.Duration(now.Nano()) + time.Duration(then*1e9))
		return poll.Success()
	}, poll.WithTimeout(nameLimit))
	return at
}

// look turns all onlookers to a name.
func look(all []*onlooker, name string) {
	for _, o := range all {
		o.mu.Lock()
		o.name, o.state, o.reached = name+".inst.admin.dc1.cns.internal.", "", time.Time{}
		o.mu.Unlock()
	}
}

// await waits until all see a state, and returns when the last one came to see it.
func await(t *testing.T, all []*onlooker, state string) (last time.Time) {
	t.Helper()
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		last = time.Time{}
		for i, o := range all {
			o.mu.Lock()
			seen, since, name := o.state, o.since, o.name
			o.mu.Unlock()
			if seen != state {
				return poll.Continue("host %d: %s is %q, not %q", i+1, name, seen, state)
			}
			if since.After(last) {
				last = since
			}
		}
		return poll.Success()
	}, poll.WithTimeout(nameLimit), poll.WithDelay(lookEvery))
	return last
}

// awaitReached waits until the container has taken a connection from every host, and returns when it took the last one.
func awaitReached(t *testing.T, all []*onlooker) (last time.Time) {
	t.Helper()
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		last = time.Time{}
		for i, o := range all {
			o.mu.Lock()
			reached, name := o.reached, o.name
			o.mu.Unlock()
			if reached.IsZero() {
				return poll.Continue("host %d does not reach %s", i+1, name)
			}
			if reached.After(last) {
				last = reached
			}
		}
		return poll.Success()
	}, poll.WithTimeout(nameLimit), poll.WithDelay(lookEvery))
	return last
}

// knock has the host connect to where a name is, until that is done or nobody wants to know any more.
func (o *onlooker) knock(ctx context.Context, name, addr string) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		try, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		conn, err := o.dial(try, "tcp", addr)
		cancel()
		o.mu.Lock()
		over := ctx.Err() != nil || o.name != name || o.state != "there"
		if err == nil && !over {
			o.reached, over = time.Now(), true
		}
		o.mu.Unlock()
		if err == nil {
			_ = conn.Close()
		}
		if over {
			return
		}
		<-tick.C
	}
}

// run asks until the context ends.
func (o *onlooker) run(ctx context.Context) {
	defer o.conn.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	buf := make([]byte, dns.MaxMsgSize)
	for id := uint16(1); ; id++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		o.mu.Lock()
		name := o.name
		o.mu.Unlock()
		if name != "" {
			o.ask(ctx, &wg, name, id, buf)
		}
	}
}

func first(answer []dns.RR) dns.RR {
	if len(answer) == 0 {
		return nil
	}
	return answer[0]
}

func (o *onlooker) ask(ctx context.Context, wg *sync.WaitGroup, name string, id uint16, buf []byte) {
	q := new(dns.Msg).SetQuestion(name, dns.TypeA)
	q.Id = id
	p, err := q.Pack()
	if err != nil {
		panic(err)
	}
	if _, err := o.conn.Write(p); err != nil {
		return // nobody is there just now
	}
	_ = o.conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	m := new(dns.Msg)
	for m.Id != id {
		n, err := o.conn.Read(buf)
		if err != nil || m.Unpack(buf[:n]) != nil {
			return
		}
	}
	state := dns.RcodeToString[m.Rcode]
	if len(m.Answer) > 0 {
		state = "there"
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if name == o.name && state != o.state {
		o.state, o.since = state, time.Now()
		if a, ok := first(m.Answer).(*dns.A); ok {
			wg.Go(func() { o.knock(ctx, name, net.JoinHostPort(a.A.String(), "80")) })
		}
	}
}
