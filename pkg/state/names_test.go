package state_test

import (
	"testing"

	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// TestNamesRecords: each kind is stored, found and removed.
func TestNamesRecords(t *testing.T) {
	s, _ := run(t, testConfig(t))
	z := &state.Zone{Apex: "example.com.", Kind: state.ZoneOuter, Secondaries: []string{"192.0.2.1"}}
	k := &state.ZoneKey{Apex: "example.com.", Tag: 0xab01, Private: []byte{1}}
	tsig := &state.TSIG{Name: "xfer.", Secret: "eA=="}
	n := &state.Naming{Account: nereid.Admin, Container: "c1", Status: "down"}
	a := &state.Absence{Host: "h2", By: "h1"}
	_, err := s.Commit(t.Context(), state.Create(z), state.Create(k), state.Create(tsig), state.Create(n), state.Create(a))
	assert.NilError(t, err)
	v := s.View()
	got, ok := v.Zone("example.com.")
	assert.Assert(t, ok)
	assert.DeepEqual(t, got.Secondaries, z.Secondaries)
	assert.Equal(t, len(v.Zones()), 1)
	assert.Equal(t, v.ZoneKeys("example.com.")[0].Tag, k.Tag)
	assert.Equal(t, len(v.ZoneKeys("example.org.")), 0)
	secret, ok := v.TSIG("xfer.")
	assert.Assert(t, ok && len(v.TSIGs()) == 1)
	assert.Equal(t, secret.Secret, "eA==")
	named, ok := v.Naming(nereid.Admin, "c1")
	assert.Assert(t, ok)
	assert.Equal(t, named.Status, "down")
	assert.Equal(t, v.Absences()[0].Host, nereid.Host("h2"))

	changed := got.Clone()
	changed.Secondaries[0] = "x"
	assert.Equal(t, got.Secondaries[0], "192.0.2.1")
	_, err = s.Commit(t.Context(), state.Delete(z), state.Delete(k), state.Delete(tsig), state.Delete(n), state.Delete(a))
	assert.NilError(t, err)
	assert.Equal(t, len(v.Zones())+len(v.ZoneKeys("example.com."))+len(v.TSIGs())+len(v.Absences()), 0)
}

// TestWatchFromIsExact: what is there comes first, then each change with the revision as of which it is all there is.
func TestWatchFromIsExact(t *testing.T) {
	s := open(t, testConfig(t))
	v := s.View()
	start := v.Revision()
	v.Show(start+1, newContainer(id("a"), "a"))
	v.Show(start+2, &state.Network{Account: nereid.Admin, ID: "n"})
	w, all, rev := v.WatchFrom(state.KindContainer)
	defer w.Close()
	assert.Equal(t, len(all), 1)
	assert.Equal(t, rev, start+2)

	changes, rev := w.Poll()
	assert.Equal(t, len(changes), 0)
	assert.Equal(t, rev, start+2)
	v.Show(start+3, newContainer(id("b"), "b"))
	v.Show(start+4, &state.Network{Account: nereid.Admin, ID: "m"})
	<-w.Wake()
	changes, rev = w.Poll()
	assert.Equal(t, len(changes), 1)
	assert.Equal(t, rev, start+4)
}
