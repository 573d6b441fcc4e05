package transfer

import (
	"bufio"
	"bytes"
	"testing"

	"github.com/nereid-paas/nereid/cns/cnstest"
	"github.com/nereid-paas/nereid/cns/record"
	"github.com/nereid-paas/nereid/cns/zone"
)

// FuzzJournal: a file that is damaged in whatever way is read as far as it is whole, or refused; nothing panics.
func FuzzJournal(f *testing.F) {
	set, _, err := cnstest.Zones(20_000)
	if err != nil {
		f.Fatal(err)
	}
	var b bytes.Buffer
	if err := writeZone(&b, set, cnstest.DMZ); err != nil {
		f.Fatal(err)
	}
	z, _ := set.Zone(cnstest.DMZ)
	d := zone.Diff{From: 42, Until: 42, To: 43, Removed: []record.Record{z.SOAAt(42)}, Added: []record.Record{z.SOAAt(43)}}
	if err := writeBlock(&b, blockChange, appendDiff(nil, d)); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add(b.Bytes()[:b.Len()-1])
	f.Fuzz(func(t *testing.T, file []byte) {
		p := &past{apex: cnstest.DMZ, records: map[record.Record]bool{}}
		if err := p.read(bufio.NewReader(bytes.NewReader(file))); err != nil {
			return
		}
		if step := p.step(set, p.serial+1); step == nil || len(step.Added) == 0 {
			t.Error("no way from a journal to the zone as it is")
		}
	})
}
