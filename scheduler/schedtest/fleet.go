package schedtest

import (
	"fmt"
	"io"
	"math/big"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/scheduler/snapshot"
)

// fleet is what a transcript works on.
type fleet struct {
	s    *snapshot.Snapshot
	runs int // so far; seeds differ by it
}

func newFleet() *fleet { return &fleet{s: snapshot.New()} }

// do is one command.
func (f *fleet) do(words []string, out io.Writer) error {
	commands := map[string]func([]string, io.Writer) error{
		"host": f.host, "gone": f.gone, "health": f.health, "image": f.image,
		"run": f.run, "stop": f.stop, "rm": f.rm, "hosts": f.hosts,
	}
	c, ok := commands[words[0]]
	if !ok {
		return fmt.Errorf("no such command: %s", words[0])
	}
	return c(words[1:], out)
}

// host NAME [memory=SIZE] [cpus=N] [platform=P] [overcommit-memory=F] [overcommit-cpus=F] [slots=N] [drained] [label=K=V]...
func (f *fleet) host(words []string, _ io.Writer) error {
	h := snapshot.Host{
		Name: nereid.Host(words[0]), Labels: map[string]string{}, Platform: "linux/amd64",
		Capacity:         snapshot.Resources{Memory: 8 << 30, CPUs: 4e9},
		OvercommitMemory: 1, OvercommitCPUs: 1,
	}
	for _, w := range words[1:] {
		k, v, _ := strings.Cut(w, "=")
		var err error
		switch k {
		case "memory":
			h.Capacity.Memory, err = size(v)
		case "cpus":
			h.Capacity.CPUs, err = nano(v)
		case "platform":
			h.Platform = v
		case "overcommit-memory":
			h.OvercommitMemory, err = strconv.ParseFloat(v, 64)
		case "overcommit-cpus":
			h.OvercommitCPUs, err = strconv.ParseFloat(v, 64)
		case "slots":
			h.MaxContainers, err = strconv.Atoi(v)
		case "drained":
			h.Cordoned = true
		case "label":
			label, value, _ := strings.Cut(v, "=")
			h.Labels[label] = value
		default:
			err = fmt.Errorf("no such option: %s", k)
		}
		if err != nil {
			return err
		}
	}
	f.s.PutHost(h)
	return nil
}

func (f *fleet) gone(words []string, _ io.Writer) error {
	f.s.RemoveHost(nereid.Host(words[0]))
	return nil
}

// health NAME alive|suspect|unreachable
func (f *fleet) health(words []string, _ io.Writer) error {
	names := []string{"alive", "suspect", "unreachable"}
	i := slices.Index(names, words[1])
	if i < 0 {
		return fmt.Errorf("no such health: %s", words[1])
	}
	f.s.SetHealth(nereid.Host(words[0]), snapshot.Health(i))
	return nil
}

// image NAME[,NAME]... HOST...
func (f *fleet) image(words []string, _ io.Writer) error {
	names := strings.Split(words[0], ",")
	i := snapshot.Image{Account: nereid.Admin, ID: imageID(names[0]), Names: names}
	for _, h := range words[1:] {
		i.Hosts = append(i.Hosts, nereid.Host(h))
	}
	f.s.PutImage(i)
	return nil
}

func imageID(name string) nereid.ImageID { return nereid.ImageID("sha256:" + name) }

// stop NAME: it exists on, and holds nothing.
func (f *fleet) stop(words []string, _ io.Writer) error {
	c, ok := f.s.Container(account(nil), nereid.ContainerID(words[0]))
	if !ok {
		return fmt.Errorf("no such container: %s", words[0])
	}
	c.Holds = false
	f.s.PutContainer(c)
	return nil
}

func (f *fleet) rm(words []string, _ io.Writer) error {
	f.s.RemoveContainer(account(nil), nereid.ContainerID(words[0]))
	return nil
}

// hosts lists what is free and how many containers there are.
func (f *fleet) hosts(_ []string, out io.Writer) error {
	for slot := range f.s.Known().All() {
		free, _, _ := f.s.Free(slot)
		fmt.Fprintf(out, "%s: %d containers, %dMiB and %g CPUs free\n", f.s.Host(slot).Name, f.s.Containers(slot), free.Memory>>20, float64(free.CPUs)/1e9)
	}
	return nil
}

func account(words []string) nereid.Account {
	if len(words) > 0 {
		return nereid.Account(words[0])
	}
	return nereid.Admin
}

// size reads bytes: 512MiB, 1.5GiB.
func size(text string) (int64, error) {
	for i, unit := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if n, ok := strings.CutSuffix(text, unit); ok {
			v, err := strconv.ParseFloat(n, 64)
			return int64(v * float64(int64(1)<<(10*(i+1)))), err
		}
	}
	return strconv.ParseInt(text, 10, 64)
}

// nano reads CPUs.
func nano(text string) (int64, error) {
	r, ok := new(big.Rat).SetString(text)
	if !ok {
		return 0, fmt.Errorf("not a number: %s", text)
	}
	n, _ := r.Mul(r, big.NewRat(1e9, 1)).Float64()
	return int64(n), nil
}

// port reads [IP:]PORT/PROTO.
func port(text string) (snapshot.Port, error) {
	text, proto, _ := strings.Cut(text, "/")
	var p snapshot.Port
	if i := strings.LastIndex(text, ":"); i >= 0 {
		ip, err := netip.ParseAddr(text[:i])
		if err != nil {
			return p, err
		}
		p.IP, text = ip, text[i+1:]
	}
	n, err := strconv.ParseUint(text, 10, 16)
	p.Proto, p.Port = proto, uint16(n)
	return p, err
}
