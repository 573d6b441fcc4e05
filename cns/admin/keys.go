package admin

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/nereid-paas/nereid/cns/record"
	"github.com/nereid-paas/nereid/cns/sign"
	"github.com/nereid-paas/nereid/cns/transfer"
	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// Keys are those that sign a zone, by tag.
func (a *Admin) Keys(_ context.Context, name string) ([]nereid.CNSKey, error) {
	apex, err := apexOf(name)
	if err != nil {
		return nil, err
	}
	z, ok := a.store.View().Zone(apex)
	if !ok {
		return nil, noSuchZone(apex)
	}
	all := []nereid.CNSKey{}
	for _, k := range a.store.View().ZoneKeys(apex) {
		key, err := sign.Parse(k.Private)
		if err != nil {
			return nil, err
		}
		all = append(all, nereid.CNSKey{Tag: k.Tag, Created: k.Created, DS: key.DS(apex, cmp.Or(z.TTL, record.TTL))})
	}
	return all, nil
}

// AddKey adds a key to a signed zone: the first half of replacing one.
func (a *Admin) AddKey(ctx context.Context, name string) (nereid.CNSKey, error) {
	before, err := a.Keys(ctx, name)
	if err != nil {
		return nereid.CNSKey{}, err
	}
	apex, _ := apexOf(name)
	if z, ok := a.store.View().Zone(apex); !ok || !z.DNSSEC {
		return nereid.CNSKey{}, errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("zone %s is not signed: set dnssec=on", strings.TrimSuffix(apex, ".")))
	}
	op, err := newKey(apex)
	if err != nil {
		return nereid.CNSKey{}, err
	}
	if _, err := a.store.Commit(ctx, op); err != nil {
		return nereid.CNSKey{}, err
	}
	now, err := a.Keys(ctx, name)
	if err != nil {
		return nereid.CNSKey{}, err
	}
	for _, k := range now {
		if !slices.ContainsFunc(before, func(b nereid.CNSKey) bool { return b.Tag == k.Tag }) {
			return k, nil
		}
	}
	return nereid.CNSKey{}, errdefs.ErrAborted.WithMessage("the key was removed at the same time")
}

// RemoveKey removes a key of a zone that has others: the second half of replacing one.
func (a *Admin) RemoveKey(ctx context.Context, name string, tag uint16) error {
	apex, err := apexOf(name)
	if err != nil {
		return err
	}
	keys := a.store.View().ZoneKeys(apex)
	i := slices.IndexFunc(keys, func(k *state.ZoneKey) bool { return k.Tag == tag })
	if i < 0 {
		return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("No such key: %d", tag))
	}
	if z, ok := a.store.View().Zone(apex); ok && z.DNSSEC && len(keys) == 1 {
		return errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("key %d is the only one of a signed zone: add another first", tag))
	}
	_, err = a.store.Commit(ctx, state.Delete(keys[i]))
	return err
}

// TSIGs are the keys shared with other name servers, by name, without their secrets.
func (a *Admin) TSIGs(context.Context) ([]nereid.CNSTSIG, error) {
	all := []nereid.CNSTSIG{}
	for _, k := range a.store.View().TSIGs() {
		all = append(all, nereid.CNSTSIG{Name: k.Name, Algorithm: strings.TrimSuffix(k.Algorithm, "."), Created: k.Created})
	}
	return all, nil
}

// secretSize is what HMAC-SHA256 makes full use of.
const secretSize = 32

// AddTSIG makes a key, of chance unless a secret is given, and returns all of it.
func (a *Admin) AddTSIG(ctx context.Context, name string, k nereid.CNSTSIG) (nereid.CNSTSIG, error) {
	fqdn, err := record.FQDN(name)
	if err != nil {
		return k, invalid("TSIG key %q: %v", name, err)
	}
	algorithm, ok := transfer.Algorithm(cmp.Or(k.Algorithm, "hmac-sha256"))
	if !ok {
		return k, invalid("TSIG algorithm %q is not one of hmac-sha1, hmac-sha224, hmac-sha256, hmac-sha384, hmac-sha512", k.Algorithm)
	}
	if k.Secret == "" {
		b := make([]byte, secretSize)
		rand.Read(b) // never fails, by its contract
		k.Secret = base64.StdEncoding.EncodeToString(b)
	}
	if b, err := base64.StdEncoding.DecodeString(k.Secret); err != nil || len(b) < 16 {
		return k, invalid("TSIG key %q: its secret is not 16 octets or more in base64", name)
	}
	r := &state.TSIG{Name: fqdn, Algorithm: algorithm, Secret: k.Secret, Created: time.Now().UTC()}
	if _, err := a.store.Commit(ctx, state.Create(r)); errdefs.IsAlreadyExists(err) {
		return k, errdefs.ErrAlreadyExists.WithMessage(fmt.Sprintf("TSIG key %s already exists", strings.TrimSuffix(fqdn, ".")))
	} else if err != nil {
		return k, err
	}
	return nereid.CNSTSIG{Name: fqdn, Algorithm: strings.TrimSuffix(algorithm, "."), Secret: k.Secret, Created: r.Created}, nil
}

// RemoveTSIG removes a key that no zone needs.
func (a *Admin) RemoveTSIG(ctx context.Context, name string) error {
	fqdn, err := record.FQDN(name)
	if err != nil {
		return invalid("TSIG key %q: %v", name, err)
	}
	k, ok := a.store.View().TSIG(fqdn)
	if !ok {
		return errdefs.ErrNotFound.WithMessage("No such TSIG key: " + strings.TrimSuffix(fqdn, "."))
	}
	for _, z := range a.store.View().Zones() {
		uses := slices.Contains(z.Keys, fqdn) || slices.ContainsFunc(z.Secondaries, func(s string) bool { return strings.HasSuffix(s, "@"+fqdn) })
		if uses {
			return errdefs.ErrConflict.WithMessage(fmt.Sprintf("TSIG key %s is used by zone %s", strings.TrimSuffix(fqdn, "."), strings.TrimSuffix(z.Apex, ".")))
		}
	}
	_, err = a.store.Commit(ctx, state.Delete(k))
	return err
}
