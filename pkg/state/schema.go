package state

import (
	"context"
	"fmt"
	"strconv"

	"github.com/containerd/errdefs"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// schemaVersion of keys and values. It grows when an older nereid would misread what a newer one writes; fields that
// may be ignored need no new version.
const schemaVersion = 1

// checkSchema marks a fresh state with our version and refuses one of a newer.
func (s *Store) checkSchema(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := s.client.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(schemaKey), "=", 0)).
		Then(clientv3.OpPut(schemaKey, strconv.Itoa(schemaVersion))).
		Else(clientv3.OpGet(schemaKey)).Commit()
	if err != nil {
		return fmt.Errorf("read the version of the state: %w", classify(err))
	}
	if resp.Succeeded {
		return nil
	}
	return checkVersion(string(resp.Responses[0].GetResponseRange().GetKvs()[0].GetValue()))
}

func checkVersion(text string) error {
	version, err := strconv.Atoi(text)
	if err != nil || version < 1 {
		return fmt.Errorf("version of the state is %q: %w", text, errdefs.ErrDataLoss)
	}
	if version > schemaVersion {
		return fmt.Errorf("the state has version %d, this nereid knows up to %d; use a newer one: %w",
			version, schemaVersion, errdefs.ErrFailedPrecondition)
	}
	return nil
}
