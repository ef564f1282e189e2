// Package store keeps state on disk, in bbolt. A change is a function over a [Tx]: it is all there or not at all,
// and [Store.Update] returns only when it is on disk. Functions that come at the same time share one commit, and
// each of them is still atomic for itself: it works on an overlay in memory, which is merged when it succeeds.
//
// What is kept is keys and values in nested buckets. Begin with [Open], [Store.Update] and [Tx.Bucket]:
//
//	err := s.Update(ctx, func(tx *store.Tx) error {
//		tx.Bucket("domain", name, "boot").Put([]byte("order"), order)
//		return nil
//	})
//
// A function must not call the Store that it runs in, nor wait for somebody who does: there is one writer, and
// every other change waits for the function. It may read and write nothing but its Tx.
//
// The file is checked page by page when it is opened, because bbolt trusts what it reads: what is damaged gives
// [ErrCorrupt], and never a panic. The package does not encrypt; the file can be read by its owner alone.
package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"biosv/internal/durable"
)

// Options change what is usual.
type Options struct {
	// NoSync leaves fsync out. It is for the test that shows that the power-cut test can fail.
	NoSync bool
}

// Store is an open state. It is safe for concurrent use. One goroutine, which [Store.Close] waits for, does all
// writing.
type Store struct {
	path    string
	options Options

	mu     sync.RWMutex // held for reading by everything that uses db; for writing while db is replaced
	db     *bolt.DB
	closed bool
	broken error // why nothing is written any more; the committer's, while it holds mu for reading
	stuck  bool  // bbolt's writer lock was not given back; the committer's, too

	queue     chan *update
	done      chan struct{}
	committer sync.WaitGroup
	restoring sync.Mutex           // held by the one Restore
	commit    func(*bolt.Tx) error // (*bolt.Tx).Commit, except in tests
}

const (
	// mapped is how much of the file is mapped from the start. It costs addresses and no memory. bbolt waits for
	// every reader before it maps more, so within it a slow backup holds no change up.
	mapped = 1 << 30
	// growth is the step in which the file grows, as a hole that takes no room until it is written.
	growth = 1 << 20
)

// Open opens the state in a file, which is made, with mode 0600, where there is none. An older state is migrated.
// It is refused at once with ErrLocked while another process has it open, with ErrNewer where a newer version
// wrote it, with ErrCorrupt where it is damaged, and with ErrFull where there is no room to make it.
func Open(path string, o Options) (*Store, error) { return open(path, o, migrations) }

func open(path string, o Options, migrations []migration) (*Store, error) {
	if err := create(path, o, migrations); err != nil {
		return nil, fmt.Errorf("make the state %s: %w", path, err)
	}
	db, err := openFile(path, o, migrations)
	if err != nil {
		return nil, fmt.Errorf("open the state %s: %w", path, err)
	}
	s := &Store{
		path: path, options: o, db: db, commit: (*bolt.Tx).Commit,
		queue: make(chan *update), done: make(chan struct{}),
	}
	s.committer.Go(s.run)
	return s, nil
}

// create makes an empty state where there is none. It is made whole under another name first, so that a crash
// leaves no half of one at the path; and linked, not renamed, so that of two processes only one makes it.
func create(path string, o Options, migrations []migration) error {
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-state-*") // its mode is 0600
	if err != nil {
		return full(err)
	}
	defer os.Remove(f.Name())
	if err := f.Close(); err != nil {
		return err
	}
	db, err := openFile(f.Name(), o, migrations)
	if err != nil {
		return err
	}
	if err := db.Close(); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, os.ErrExist) {
		return full(err)
	}
	return durable.SyncFolder(filepath.Dir(path))
}

// openFile locks a file, checks its pages, gives it to bbolt and migrates what is in it.
func openFile(path string, o Options, migrations []migration) (db *bolt.DB, err error) {
	defer recovered(&err)
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	db, err = bolt.Open(path, 0o600, &bolt.Options{
		Timeout:         time.Nanosecond,
		NoSync:          o.NoSync,
		FreelistType:    bolt.FreelistMapType,
		InitialMmapSize: mapped,
		OpenFile:        openChecked,
	})
	if err != nil {
		return nil, full(asCorrupt(err))
	}
	db.AllocSize = growth
	if err := migrate(db, migrations); err != nil {
		return nil, errors.Join(full(err), db.Close())
	}
	return db, nil
}

// Close waits for the functions under way, lets those that wait for their turn go with ErrClosed, and closes
// the file.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.done)
	s.mu.Unlock()
	s.committer.Wait()
	s.mu.Lock() // readers that began before
	defer s.mu.Unlock()
	if s.stuck {
		return fmt.Errorf("close the state: %w", s.broken)
	}
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("close the state: %w", err)
	}
	return nil
}

// View reads the state as the last commit left it, beside other readers and the writer. What fn gets from its Tx
// is valid until fn returns. A write in a View, or a damaged page, is an error of View even if fn returns nil.
func (s *Store) View(ctx context.Context, fn func(*Tx) error) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return ErrClosed
	}
	defer faulted(&err)
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	return s.db.View(func(b *bolt.Tx) error {
		tx := &Tx{bolt: b}
		return tx.outcome(fn(tx))
	})
}

// Backup writes a consistent copy of the state while it is in use, and gives its length. [Check] and
// [Store.Restore] take it.
func (s *Store) Backup(ctx context.Context, w io.Writer) (n int64, err error) {
	to := &backupWriter{ctx: ctx, w: w}
	err = s.View(ctx, func(tx *Tx) error {
		n, err = tx.bolt.WriteTo(to)
		return err
	})
	if to.err != nil {
		err = to.err // bbolt keeps the words of some errors only
	}
	if err != nil {
		return n, fmt.Errorf("back the state up: %w", err)
	}
	return n, nil
}

// backupWriter ends a copy when its context ends.
type backupWriter struct {
	ctx context.Context
	w   io.Writer
	err error
}

func (b *backupWriter) Write(p []byte) (n int, err error) {
	if b.err = b.ctx.Err(); b.err == nil {
		n, b.err = b.w.Write(p)
	}
	return n, b.err
}
