package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	bolt "go.etcd.io/bbolt"

	"biosv/internal/durable"
)

// Check says whether a file, which a backup may be, is a state that this program can open: it follows every page,
// looks for pages that are neither used nor free, and reads the schema version. It changes nothing. ErrLocked is
// a state that is in use.
func Check(path string) error {
	if err := check(path); err != nil {
		return fmt.Errorf("check the state %s: %w", path, err)
	}
	return nil
}

func check(path string) (err error) {
	defer recovered(&err)
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	if info, err := os.Stat(path); err != nil {
		return err
	} else if info.Size() == 0 {
		return fmt.Errorf("%w: the file is empty", ErrCorrupt)
	}
	db, err := bolt.Open(path, 0, &bolt.Options{ReadOnly: true, Timeout: time.Nanosecond, OpenFile: openChecked})
	if err != nil {
		return asCorrupt(err)
	}
	defer db.Close()
	if err := db.View(func(tx *bolt.Tx) (first error) {
		for err := range tx.Check() { // to its end, or its goroutine would wait for ever
			if first == nil {
				first = corrupt(err)
			}
		}
		return first
	}); err != nil {
		return err
	}
	version, err := schemaOf(db)
	if err != nil {
		return err
	}
	if version == 0 {
		return fmt.Errorf("%w: it has no schema version", ErrCorrupt)
	}
	return refuseNewer(version, SchemaVersion())
}

// Restore puts a copy that [Store.Backup] made in the state's place, and gives its schema version. It waits for
// functions under way; those that follow see the restored state. With an error the state is as it was, save where
// the error says otherwise. What was there before is kept beside it, with the suffix .before-restore. ErrCorrupt
// says that the copy is none of ours, ErrNewer that it is too new, ErrFull that there is no room for it.
func (s *Store) Restore(ctx context.Context, r io.Reader) (schema int, err error) {
	s.restoring.Lock()
	defer s.restoring.Unlock()
	fresh := s.path + ".restore"
	defer os.Remove(fresh)
	if err := writeSynced(fresh, r); err != nil {
		return 0, full(fmt.Errorf("restore the state: %w", err))
	}
	if err := Check(fresh); err != nil {
		return 0, fmt.Errorf("restore the state: %w", err)
	}
	// From here on it is locked, as an open state must be; the lock goes with the file to its new name.
	db, err := openFile(fresh, s.options, migrations)
	if err != nil {
		return 0, fmt.Errorf("restore the state: %w", err)
	}
	other, err := s.replace(ctx, fresh, db)
	if other != nil {
		err = errors.Join(err, other.Close())
	}
	if err != nil {
		return 0, fmt.Errorf("restore the state: %w", err)
	}
	return SchemaVersion(), nil
}

// replace makes fresh the state, and gives the database that is then the one too many.
func (s *Store) replace(ctx context.Context, fresh string, db *bolt.DB) (*bolt.DB, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return db, ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return db, err
	}
	// The old state gets its other name before the new one takes its place: a crash leaves one of them at the path.
	kept := s.path + ".before-restore"
	if err := os.Remove(kept); err != nil && !errors.Is(err, os.ErrNotExist) {
		return db, err
	}
	if err := os.Link(s.path, kept); err != nil {
		return db, full(err)
	}
	if err := os.Rename(fresh, s.path); err != nil {
		return db, full(err)
	}
	old := s.db
	s.db, s.broken = db, nil
	if s.stuck { // nobody can close it
		old, s.stuck = nil, false
	}
	if err := durable.SyncFolder(filepath.Dir(s.path)); err != nil {
		return old, fmt.Errorf("the copy is in the state's place, and a power cut may undo that: %w", err)
	}
	return old, nil
}

func writeSynced(path string, r io.Reader) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, r); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Sync(); err != nil {
		return errors.Join(err, f.Close())
	}
	return f.Close()
}
