package schedtest

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/scheduler"
	"github.com/nereid-paas/nereid/scheduler/expr"
	"github.com/nereid-paas/nereid/scheduler/snapshot"
)

// order is a container that is to run.
type order struct {
	c      snapshot.Container
	r      snapshot.Request
	env    []string
	times  int
	seed   uint64
	show   bool        // what the container gets of labels and environment
	on     nereid.Host // the host that is asked, without looking at others
	counts bool        // only how many hosts each filter ruled out
}

// run [--name N] [-m SIZE] [--cpus N] [-e ENV] [--label K=V] [--platform P] [--expose PORT/PROTO] [--link C] [--volumes-from C]
// [--network container:C] [--pid container:C] [--ipc container:C] [-v VOLUME@HOST | -v /PATH@HOST] [--account A] [--service S]
// [--refused HOST=WHY] [--seed N] [--times N] [--show] [--counts] [--on HOST] IMAGE
func (f *fleet) run(words []string, out io.Writer) error {
	o := order{times: 1}
	o.c.Account, o.c.Labels, o.c.Holds = nereid.Admin, map[string]string{}, true
	if err := f.read(&o, words); err != nil {
		return err
	}
	ask, labels, env, err := expr.Read(o.c.Labels, o.env)
	if err != nil {
		return err
	}
	o.c.Labels = labels
	if o.show {
		for _, k := range slices.Sorted(maps.Keys(labels)) {
			fmt.Fprintf(out, "label %s=%s\n", k, labels[k])
		}
		fmt.Fprintf(out, "environment %q\n", env)
	}
	o.r.Account, o.r.Service, o.r.Resources, o.r.Ports = o.c.Account, o.c.Service, o.c.Resources, o.c.Ports
	o.r.Constraints, o.r.Affinities = ask.Constraints, ask.Affinities
	o.r.Strategy = map[string]snapshot.Strategy{"binpack": snapshot.Binpack, "random": snapshot.Random}[ask.Strategy]
	o.r.Spread = map[string]snapshot.SpreadBy{"rack": snapshot.ByRack}[ask.Spread]
	f.place(o, out)
	return nil
}

// place runs it as often as is asked, and tells where. A failure is told once.
func (f *fleet) place(o order, out io.Writer) {
	tally := map[nereid.Host]int{}
	for i := range o.times {
		f.runs++
		d := f.decide(o, uint64(i))
		if d.Host == "" {
			f.tell(tally, o, out)
			f.refuse(d, o, out)
			return
		}
		tally[d.Host]++
		c := o.c
		c.Host = d.Host
		if c.Name == "" || o.times > 1 {
			c.Name = o.c.Name + strconv.Itoa(f.runs)
		}
		if c.ID == "" {
			c.ID = nereid.ContainerID(c.Name)
		}
		f.s.PutContainer(c)
		if o.times == 1 {
			fmt.Fprintf(out, "%s: %s\n", c.Name, d.Host)
		}
	}
	if o.times > 1 {
		f.tell(tally, o, out)
	}
}

func (f *fleet) decide(o order, i uint64) scheduler.Decision {
	if o.on == "" {
		return scheduler.Place(f.s, &o.r, o.seed+i)
	}
	if why := scheduler.Check(f.s, &o.r, o.on); why != "" {
		return scheduler.Decision{Hosts: 1, Refusals: []scheduler.Refusal{{Why: string(o.on) + ": " + why}}}
	}
	return scheduler.Decision{Host: o.on}
}

func (f *fleet) tell(tally map[nereid.Host]int, o order, out io.Writer) {
	if o.times == 1 {
		return
	}
	var parts []string
	for _, h := range slices.Sorted(maps.Keys(tally)) {
		parts = append(parts, fmt.Sprintf("%s %d", h, tally[h]))
	}
	fmt.Fprintf(out, "%s: %s\n", o.r.Service, strings.Join(parts, ", "))
}

func (f *fleet) refuse(d scheduler.Decision, o order, out io.Writer) {
	if !o.counts {
		fmt.Fprintln(out, d.Reason())
		return
	}
	for _, r := range d.Refusals {
		fmt.Fprintf(out, "%s %d\n", r.Filter, r.Hosts)
	}
}

// read takes the options of a run.
func (f *fleet) read(o *order, words []string) error {
	for len(words) > 0 {
		w := words[0]
		switch w {
		case "--show":
			o.show = true
		case "--counts":
			o.counts = true
		default:
			if !strings.HasPrefix(w, "-") {
				o.r.Image = imageID(w)
				if o.c.Service == "" {
					o.c.Service = w
				}
				return nil
			}
			if len(words) < 2 {
				return fmt.Errorf("%s wants a value", w)
			}
			if err := f.option(o, w, words[1]); err != nil {
				return err
			}
			words = words[1:]
		}
		words = words[1:]
	}
	return fmt.Errorf("an image is missing")
}

func (f *fleet) option(o *order, name, v string) (err error) {
	switch name {
	case "--name":
		o.c.Name = v
	case "--id":
		o.c.ID = nereid.ContainerID(v)
	case "-m":
		o.c.Memory, err = size(v)
	case "--cpus":
		o.c.CPUs, err = nano(v)
	case "-e":
		o.env = append(o.env, v)
	case "--label":
		k, value, _ := strings.Cut(v, "=")
		o.c.Labels[k] = value
	case "--platform":
		o.r.Platform = v
	case "--account":
		o.c.Account = nereid.Account(v)
	case "--service":
		o.c.Service = v
	case "--seed":
		o.seed, err = strconv.ParseUint(v, 10, 64)
	case "--times":
		o.times, err = strconv.Atoi(v)
	case "--expose":
		var p snapshot.Port
		p, err = port(v)
		o.c.Ports = append(o.c.Ports, p)
	case "--on":
		o.on = nereid.Host(v)
	case "--refused":
		h, why, _ := strings.Cut(v, "=")
		o.r.Refused = append(o.r.Refused, snapshot.Refused{Host: nereid.Host(h), Why: why})
	default:
		err = f.pin(o, name, v)
	}
	return err
}

// pin is an option that ties the container to a host.
func (f *fleet) pin(o *order, name, v string) error {
	what, host, _ := strings.Cut(v, "@")
	p := snapshot.Pin{Name: what, Host: nereid.Host(host)}
	kinds := map[string]snapshot.PinKind{
		"--link": snapshot.PinLink, "--volumes-from": snapshot.PinVolumesFrom, "--network": snapshot.PinNetwork,
		"--pid": snapshot.PinPID, "--ipc": snapshot.PinIPC, "-v": snapshot.PinVolume, "-p": snapshot.PinAddress,
	}
	kind, ok := kinds[name]
	if !ok {
		return fmt.Errorf("no such option: %s", name)
	}
	p.Kind = kind
	switch {
	case name == "-v" && strings.HasPrefix(v, "/"):
		p.Kind = snapshot.PinBind
	case name != "-v" && name != "-p":
		p.Name = strings.TrimPrefix(what, "container:")
		c, ok := f.s.Container(o.c.Account, nereid.ContainerID(p.Name))
		if !ok {
			return fmt.Errorf("no such container: %s", p.Name)
		}
		p.Host = c.Host
	}
	o.r.Pins = append(o.r.Pins, p)
	return nil
}
