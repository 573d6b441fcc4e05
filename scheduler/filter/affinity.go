package filter

import (
	"fmt"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/scheduler/expr"
	"github.com/nereid-paas/nereid/scheduler/snapshot"
)

// Affinity rules out hosts by what is on them: containers of the account, running or not, or the content of an image.
type Affinity struct {
	Account nereid.Account
	Expr    *expr.Expr
}

// Name implements Filter.
func (Affinity) Name() string { return "affinity" }

// Cut implements Cutter.
func (f Affinity) Cut(s *snapshot.Snapshot, in snapshot.Set) {
	keep(in, f.Expr.Not, s.HostsNear(f.Account, f.Expr.Key, f.Expr.Pattern))
}

// Why implements Filter.
func (f Affinity) Why(_ *snapshot.Snapshot, out snapshot.Set, all int) string {
	what := fmt.Sprintf("a container with label %s %s", f.Expr.Key, f.Expr.Pattern)
	switch f.Expr.Key {
	case snapshot.KeyContainer:
		what = "container " + f.Expr.Pattern.String()
	case snapshot.KeyImage:
		what = "image " + f.Expr.Pattern.String()
	}
	if f.Expr.Not {
		return fmt.Sprintf("%s %s, against affinity %s", of(out.Len(), all, "has", "have"), what, f.Expr)
	}
	return fmt.Sprintf("%s not have %s, for affinity %s", of(out.Len(), all, "does", "do"), what, f.Expr)
}
