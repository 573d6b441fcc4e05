package network

import (
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// BenchmarkContainer is one container's network from nothing to nothing.
func BenchmarkContainer(b *testing.B) {
	f, err := New(Config{Host: "bench", ExecRoot: b.TempDir()})
	assert.NilError(b, err)
	defer f.close()
	n := testNetwork(1)
	for i := 0; b.Loop(); i++ {
		id := testBoxID(i)
		_, err := f.NewSandbox(b.Context(), id, SandboxOptions{})
		assert.NilError(b, err)
		a := attachment(n, 0, byte(2+i%200))
		assert.NilError(b, f.Attach(b.Context(), id, []Attachment{a}))
		assert.NilError(b, f.Publish(b.Context(), id, []Published{{
			Proto: "tcp", HostIP: netip.IPv4Unspecified(), HostPort: 8080, ContainerAddr: a.Endpoint.Address.Addr(), ContainerPort: 80,
		}}))
		assert.NilError(b, f.Remove(b.Context(), id))
	}
	assert.NilError(b, f.Restore(b.Context(), nil))
	assert.NilError(b, f.fw.remove())
}

func TestManyAtOnce(t *testing.T) {
	f, _ := resolvers(t, book{"db": "10.200.1.3"})
	n := testNetwork(1)
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			for round := range 3 {
				b := newBox(t, f, byte(2+i+16*round), n)
				assert.Check(t, f.Publish(t.Context(), b.id, both("0.0.0.0", uint16(8000+i), b, 80)))
				m, err := tryQuery(b, "udp", "db", dns.TypeA)
				assert.Check(t, err)
				if err == nil {
					assert.Check(t, answers(m) == "10.200.1.3", answers(m))
				}
				assert.Check(t, f.Remove(t.Context(), b.id))
			}
		})
	}
	all.Wait()
	assert.Equal(t, len(f.fw.have.ports), 0)
	assert.Equal(t, len(f.sandboxes), 0)
}

// BenchmarkAttach is one more container on a network that has none, a hundred, five hundred or a thousand. Beside the time
// it tells what the attachment takes of a processor, kernel and all, which says more on a busy machine.
func BenchmarkAttach(b *testing.B) {
	for _, have := range []int{0, 100, 500, 1000} {
		b.Run(strconv.Itoa(have), func(b *testing.B) {
			f, err := New(Config{Host: "bench", ExecRoot: b.TempDir()})
			assert.NilError(b, err)
			defer f.close()
			n := testNetwork(1)
			n.Subnets[0].Prefix = netip.MustParsePrefix("10.200.0.0/16")
			box := func(i int) (nereid.ContainerID, []Attachment) {
				id := testBoxID(i)
				_, err := f.NewSandbox(b.Context(), id, SandboxOptions{LoopbackOnly: true})
				assert.NilError(b, err)
				a := attachment(n, 0, 0)
				addr := netip.AddrFrom4([4]byte{10, 200, byte(i / 250), byte(2 + i%250)})
				a.Endpoint.Address, a.Endpoint.MAC = netip.PrefixFrom(addr, 16), MAC(addr)
				return id, []Attachment{a}
			}
			for i := range have {
				id, to := box(i)
				assert.NilError(b, f.Attach(b.Context(), id, to))
			}
			id, to := box(have)
			var cpu time.Duration
			for b.Loop() {
				before := processorTime(b)
				assert.NilError(b, f.Attach(b.Context(), id, to))
				cpu += processorTime(b) - before
				b.StopTimer()
				assert.NilError(b, f.Attach(b.Context(), id, nil))
				b.StartTimer()
			}
			b.StopTimer()
			b.ReportMetric(float64(cpu.Microseconds())/float64(b.N), "cpu-µs/op")
			assert.NilError(b, f.Restore(b.Context(), nil))
			assert.NilError(b, f.fw.remove())
		})
	}
}

// processorTime is what this process has had so far.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	assert.NilError(b, unix.Getrusage(unix.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
