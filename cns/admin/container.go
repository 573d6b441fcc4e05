package admin

import (
	"context"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/nereid-paas/nereid/cns/record"
	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// SetContainer says at run time how a container is named: status=down|up, or empty for what its label says, and
// acme-challenge=TOKEN[,TOKEN], empty for none.
func (a *Admin) SetContainer(ctx context.Context, ref string, words []string) error {
	account := nereid.AccountFrom(ctx)
	for try := 1; ; try++ {
		c, err := a.store.View().FindContainer(account, ref)
		if err != nil {
			return err
		}
		n := &state.Naming{Account: account, Container: c.ID}
		if have, ok := a.store.View().Naming(account, c.ID); ok {
			n = have.Clone()
		}
		if err := say(n, words); err != nil {
			return err
		}
		op := state.Update(n)
		if n.Status == "" && len(n.Challenges) == 0 {
			op = state.Delete(n)
		}
		_, err = a.store.Commit(ctx, op)
		if err == nil || !errdefs.IsAborted(err) || try == maxTries {
			return err
		}
	}
}

// say brings words into what is said of a container.
func say(n *state.Naming, words []string) error {
	if len(words) == 0 {
		return invalid("nothing to set: give status=down, status=up or acme-challenge=TOKEN")
	}
	for _, w := range words {
		key, value, _ := strings.Cut(w, "=")
		switch key {
		case "status":
			if _, err := record.Status(value); err != nil && value != "" {
				return invalid("status: %v", err)
			}
			n.Status = value
		case "acme-challenge":
			all, err := record.Challenges(value)
			if err != nil {
				return invalid("acme-challenge: %v", err)
			}
			n.Challenges = all
		default:
			return invalid("%q is neither status=… nor acme-challenge=…", w)
		}
	}
	return nil
}
