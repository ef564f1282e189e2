package store

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	bolt "go.etcd.io/bbolt"
)

// Restore puts a copy that [Store.Backup] made in the state's place and gives its schema version. The copy is
// written and checked first: an error leaves the state as it is. What was there before is kept beside it, with
// the suffix .before-restore. ErrCorrupt says that the copy is none of ours, ErrNewer that it is too new.
func (s *Store) Restore(ctx context.Context, r io.Reader) (schema int, err error) {
	fresh := s.path + ".restore"
	defer os.Remove(fresh)
	if err := writeSynced(fresh, r); err != nil {
		return 0, full(fmt.Errorf("restore: %w", err))
	}
	if err := Check(fresh); err != nil {
		return 0, err
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, ErrClosed
	}
	if err := s.db.Close(); err != nil {
		return 0, err
	}
	err = s.swap(fresh)
	// Whatever became of the swap, a state is at the path: the old one or the restored one.
	db, openErr := open(s.path, s.options)
	if openErr != nil {
		s.closed = true
		close(s.done)
		return 0, fmt.Errorf("restore: open the state again: %w", openErr)
	}
	s.db = db
	return SchemaVersion(), err
}

// swap keeps the old file under another name before the new one takes its place: a crash in between leaves one
// of the two at the path.
func (s *Store) swap(fresh string) error {
	kept := s.path + ".before-restore"
	if err := os.Remove(kept); err != nil && !os.IsNotExist(err) {
		return err
	}
	if err := os.Link(s.path, kept); err != nil {
		return err
	}
	if err := os.Rename(fresh, s.path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(s.path))
}

func writeSynced(path string, r io.Reader) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.Copy(f, r); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}

// Check says whether a file is a state that this program can open: bbolt's own check of every page, and the
// schema version.
func Check(path string) (err error) {
	defer recovered(&err)
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true})
	if err != nil {
		return fmt.Errorf("%w: %v", ErrCorrupt, err)
	}
	defer db.Close()
	if err := db.View(func(tx *bolt.Tx) error {
		for err := range tx.Check() {
			return fmt.Errorf("%w: %v", ErrCorrupt, err)
		}
		return nil
	}); err != nil {
		return err
	}
	version, err := schemaOf(db)
	switch {
	case err != nil:
		return err
	case version == 0:
		return fmt.Errorf("%w: it has no schema version", ErrCorrupt)
	case version > SchemaVersion():
		return fmt.Errorf("%w: its schema is %d, and this program knows %d", ErrNewer, version, SchemaVersion())
	}
	return nil
}
