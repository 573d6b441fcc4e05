package network

import (
	"cmp"
	"slices"
)

// Ways are the attachments by which a container reaches the world, one per family; nil where there is none. As in Docker
// it is the one of the highest priority, then one that has both families, then the first by the network's name; the first
// with both families takes both. Networks without a gateway, internal ones among them, are none.
func Ways(to []Attachment) (v4, v6 *Attachment) {
	sorted := slices.SortedFunc(slices.Values(to), func(a, b Attachment) int {
		return cmp.Or(cmp.Compare(b.Endpoint.GwPriority, a.Endpoint.GwPriority),
			cmp.Compare(b.gateways(), a.gateways()), cmp.Compare(a.Network.Name, b.Network.Name))
	})
	for i := range sorted {
		a := &sorted[i]
		four, six := a.has(false), a.has(true)
		switch {
		case four && six:
			return a, a
		case four && v4 == nil:
			v4 = a
		case six && v6 == nil:
			v6 = a
		}
	}
	return v4, v6
}

// leadOut tells whether a container with these attachments reaches the world at all.
func leadOut(to []Attachment) bool {
	v4, v6 := Ways(to)
	return v4 != nil || v6 != nil
}

// has tells whether the endpoint leads out in a family.
func (a Attachment) has(six bool) bool {
	gw := a.Endpoint.Gateway
	if six {
		gw = a.Endpoint.Gateway6
	}
	return gw.IsValid() && !a.Network.Internal
}

func (a Attachment) gateways() (n int) {
	for _, six := range []bool{false, true} {
		if a.has(six) {
			n++
		}
	}
	return n
}

// ways are the plugs that a container's default routes go by.
type ways struct{ v4, v6 *plug }

func waysOf(plugs []plug) (w ways) {
	to := make([]Attachment, len(plugs))
	for i, p := range plugs {
		to[i] = p.Attachment
	}
	v4, v6 := Ways(to)
	for i := range plugs {
		if v4 != nil && plugs[i].Endpoint == v4.Endpoint {
			w.v4 = &plugs[i]
		}
		if v6 != nil && plugs[i].Endpoint == v6.Endpoint {
			w.v6 = &plugs[i]
		}
	}
	return w
}

// plugs of the ways.
func (w ways) plugs() (list []plug) {
	for _, p := range []*plug{w.v4, w.v6} {
		if p != nil {
			list = append(list, *p)
		}
	}
	return list
}

// routes are the requests that make the default routes, in place of those that are there.
func (w ways) routes(index map[string]int) (steps []request) {
	if w.v4 != nil {
		steps = append(steps, setDefaultRoute(index[w.v4.inside], w.v4.Endpoint.Gateway, onWire(w.v4.Network)))
	}
	if w.v6 != nil {
		steps = append(steps, setDefaultRoute(index[w.v6.inside], w.v6.Endpoint.Gateway6, onWire(w.v6.Network)))
	}
	return steps
}
