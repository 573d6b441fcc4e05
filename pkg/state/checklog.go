package state

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"go.etcd.io/etcd/client/pkg/v3/fileutil"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"google.golang.org/protobuf/proto"
)

// logExtent is what etcd's write-ahead log covers.
type logExtent struct {
	exists   bool
	named    bool   // has a member's metadata
	last     uint64 // index of the last entry
	commit   uint64 // index known to be committed
	snapshot uint64 // index of the last snapshot that is committed: where a restart begins
	marks    []uint64
}

// readLog reads all of the log. Segments are read one by one, as each begins with the checksum it continues from.
func readLog(dir string) (l logExtent, err error) {
	segments, err := filepath.Glob(filepath.Join(dir, "*.wal")) // sorted, and so are their numbers
	if err != nil || len(segments) == 0 {
		return l, err
	}
	l.exists = true
	for i, path := range segments {
		err := caught(fmt.Sprintf("%q", path), func() error { return l.read(path) })
		if torn := errors.Is(err, io.ErrUnexpectedEOF); torn && i == len(segments)-1 {
			err = nil
		}
		if err != nil {
			return l, err
		}
	}
	if !l.named {
		return l, fmt.Errorf("no log in %q", dir)
	}
	for _, m := range l.marks {
		if m <= l.commit {
			l.snapshot = m
		}
	}
	return l, nil
}

func (l *logExtent) read(path string) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	decoder := wal.NewDecoder(fileutil.NewFileReader(f))
	for {
		rec := &walpb.Record{}
		if err := decoder.Decode(rec); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("%q: %w", path, err)
		}
		if rec.GetType() == wal.CrcType {
			if crc := decoder.LastCRC(); crc != 0 && rec.Validate(crc) != nil {
				return fmt.Errorf("%q: checksum mismatch", path)
			}
			decoder.UpdateCRC(rec.GetCrc())
			continue
		}
		if err := l.note(rec); err != nil {
			return fmt.Errorf("%q: %w", path, err)
		}
	}
}

func (l *logExtent) note(rec *walpb.Record) error {
	switch rec.GetType() {
	case wal.MetadataType:
		l.named = true
	case wal.EntryType:
		l.last = wal.MustUnmarshalEntry(rec.Data).GetIndex()
	case wal.StateType:
		l.commit = wal.MustUnmarshalState(rec.Data).GetCommit()
	case wal.SnapshotType:
		var s walpb.Snapshot
		if err := proto.Unmarshal(rec.Data, &s); err != nil {
			return err
		}
		l.marks = append(l.marks, s.GetIndex())
		l.last = max(l.last, s.GetIndex())
	default:
		return fmt.Errorf("record of type %d", rec.GetType())
	}
	return nil
}
