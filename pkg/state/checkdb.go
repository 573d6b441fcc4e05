package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime/debug"

	"github.com/containerd/errdefs"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
)

// readDatabase walks all of etcd's database and returns the index of the last log entry it holds, 0 for none. A
// database that another process has open is of class errdefs.ErrUnavailable.
func readDatabase(path string) (applied uint64, err error) {
	// The file is mapped: a page that is not there is a fault, not an error.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	err = caught(fmt.Sprintf("%q", path), func() (err error) {
		db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: lockPatience})
		if errors.Is(err, bolterrors.ErrTimeout) {
			return fmt.Errorf("%q is in use by another process: %w", path, errdefs.ErrUnavailable)
		}
		if err != nil {
			return fmt.Errorf("%q: %w", path, err)
		}
		defer func() { err = errors.Join(err, db.Close()) }()
		return db.View(func(tx *bbolt.Tx) error {
			if err := walkDatabase(path, tx); err != nil {
				return err
			}
			applied, err = consistentIndex(tx)
			return err
		})
	})
	return applied, err
}

func walkDatabase(path string, tx *bbolt.Tx) error {
	file, err := os.Stat(path)
	if err != nil {
		return err
	}
	if file.Size() < tx.Size() {
		return fmt.Errorf("%q holds %d of %d bytes", path, file.Size(), tx.Size())
	}
	return tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
		history := string(name) == "key"
		var last []byte
		return b.ForEach(func(k, v []byte) error {
			if bytes.Compare(last, k) >= 0 {
				return fmt.Errorf("%q: bucket %q is out of order at %x", path, name, k)
			}
			last = append(last[:0], k...)
			if !history {
				return nil
			}
			if err := checkHistory(k, v); err != nil {
				return fmt.Errorf("%q: bucket %q: %w", path, name, err)
			}
			return nil
		})
	})
}

// checkHistory looks at an entry of etcd's history: the key a revision, 17 bytes and for deletions one more.
func checkHistory(k, v []byte) error {
	if len(k) != 17 && len(k) != 18 {
		return fmt.Errorf("%x is no revision", k)
	}
	if err := proto.Unmarshal(v, &mvccpb.KeyValue{}); err != nil {
		return fmt.Errorf("revision %x: %w", k, err)
	}
	return nil
}

func consistentIndex(tx *bbolt.Tx) (uint64, error) {
	b := tx.Bucket([]byte("meta"))
	if b == nil {
		return 0, nil
	}
	v := b.Get([]byte("consistent_index"))
	if len(v) == 0 {
		return 0, nil
	}
	if len(v) != 8 {
		return 0, fmt.Errorf("the database's consistent index is %x", v)
	}
	return binary.BigEndian.Uint64(v), nil
}
