// Package store keeps state on disk, in bbolt. A change is a function over a [Tx]; it is all there or not at all,
// and [Store.Update] returns only when it is on disk. Functions that come at the same time share one commit, and
// each of them is still atomic for itself: it works on an overlay, which is merged when it succeeds.
//
// What is kept is keys and values in nested buckets; begin with [Open] and [Tx.Bucket].
package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
)

// The errors that callers tell apart.
var (
	ErrLocked  = errors.New("another process uses the state")
	ErrNewer   = errors.New("the state was written by a newer version")
	ErrCorrupt = errors.New("the state is damaged")
	ErrFull    = errors.New("the disk is full")
	ErrClosed  = errors.New("the store is closed")
)

// Options change what is usual.
type Options struct {
	// NoSync leaves fsync out. It is for the test that shows that the power-cut test can fail.
	NoSync bool
}

// Store is an open state. It is safe for concurrent use.
type Store struct {
	path    string
	options Options
	mu      sync.RWMutex // held for reading by everything that uses db; for writing while db is replaced
	db      *bolt.DB
	closed  bool
	queue   chan *update
	done    chan struct{}
	writer  sync.WaitGroup
}

type update struct {
	ctx   context.Context
	fn    func(*Tx) error
	err   error
	after []func()
	done  chan struct{}
}

// mostTogether bounds how many updates share a commit.
const mostTogether = 64

// Open opens the state in a file, which is made where there is none, and migrates an older one.
func Open(path string, o Options) (*Store, error) {
	db, err := open(path, o)
	if err != nil {
		return nil, err
	}
	s := &Store{path: path, options: o, db: db, queue: make(chan *update), done: make(chan struct{})}
	s.writer.Go(s.run)
	return s, nil
}

func open(path string, o Options) (db *bolt.DB, err error) {
	defer recovered(&err)
	_, missing := os.Stat(path)
	db, err = bolt.Open(path, 0o600, &bolt.Options{Timeout: 100 * time.Millisecond, NoSync: o.NoSync, FreelistType: bolt.FreelistMapType})
	switch {
	case errors.Is(err, bolt.ErrTimeout):
		return nil, fmt.Errorf("open %s: %w", path, ErrLocked)
	case errors.Is(err, bolt.ErrInvalid), errors.Is(err, bolt.ErrChecksum), errors.Is(err, bolt.ErrVersionMismatch):
		return nil, fmt.Errorf("open %s: %w: %v", path, ErrCorrupt, err)
	case err != nil:
		return nil, full(fmt.Errorf("open %s: %w", path, err))
	}
	if err := migrate(db, migrations); err != nil {
		db.Close()
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	if missing != nil {
		if err := syncFolder(filepath.Dir(path)); err != nil {
			db.Close()
			return nil, err
		}
	}
	return db, nil
}

func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Close waits for the updates under way, and closes the file.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	close(s.done)
	s.writer.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.db.Close()
}

// View reads. What fn gets from the Tx is valid until it returns.
func (s *Store) View(ctx context.Context, fn func(*Tx) error) (err error) {
	defer recovered(&err)
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return ErrClosed
	}
	return s.db.View(func(b *bolt.Tx) error {
		tx := &Tx{bolt: b}
		if err := fn(tx); err != nil {
			return err
		}
		return tx.err
	})
}

// Update changes. It returns nil when the change is on disk; with an error, nothing was changed. fn may run once
// only, beside others that share its commit, and sees what those before it did.
func (s *Store) Update(ctx context.Context, fn func(*Tx) error) error {
	u := &update{ctx: ctx, fn: fn, done: make(chan struct{})}
	select {
	case s.queue <- u:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.done:
		return ErrClosed
	}
	<-u.done
	return u.err
}

// run is the one writer.
func (s *Store) run() {
	for {
		select {
		case u := <-s.queue:
			s.commit(s.gather(u))
		case <-s.done:
			return
		}
	}
}

// gather takes what is waiting; it does not wait for more.
func (s *Store) gather(u *update) []*update {
	group := []*update{u}
	for len(group) < mostTogether {
		select {
		case u := <-s.queue:
			group = append(group, u)
		default:
			return group
		}
	}
	return group
}

// commit runs a group of updates and writes what those that succeed did. In the order in which things reach the
// disk: each function fills an overlay, in memory; the overlay of one that succeeds is merged into the
// transaction's pages, in memory; bbolt writes the pages, syncs them, writes the page that makes them valid, and
// syncs it. Only then is anybody told.
func (s *Store) commit(group []*update) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	err := s.write(group)
	for _, u := range group {
		if u.err == nil {
			u.err = err
		}
		if u.err == nil {
			for _, fn := range u.after {
				fn()
			}
		}
		close(u.done)
	}
}

func (s *Store) write(group []*update) (err error) {
	defer recovered(&err)
	if s.closed {
		return ErrClosed
	}
	b, err := s.db.Begin(true)
	if err != nil {
		return full(err)
	}
	defer b.Rollback()
	changed := false
	for _, u := range group {
		if u.err = u.ctx.Err(); u.err != nil {
			continue
		}
		tx := &Tx{bolt: b, overlay: newOverlay()}
		if u.err = run(tx, u.fn); u.err != nil {
			continue
		}
		if err := tx.overlay.merge(b); err != nil {
			return full(err)
		}
		changed = changed || !tx.overlay.empty()
		u.after = tx.after
	}
	if !changed {
		return nil
	}
	if err := b.Commit(); err != nil {
		return full(fmt.Errorf("commit: %w", err))
	}
	return nil
}

// run keeps a function's panic from taking the others of its group with it.
func run(tx *Tx, fn func(*Tx) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("a change of state panicked: %v", p)
		}
	}()
	if err := fn(tx); err != nil {
		return err
	}
	return tx.err
}

// recovered turns bbolt's panics over damaged pages into an error.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("%w: %v", ErrCorrupt, p)
	}
}

// full tells a full disk from other errors.
func full(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}

// Backup writes a consistent copy of the state while it is in use.
func (s *Store) Backup(ctx context.Context, w io.Writer) (n int64, err error) {
	err = s.View(ctx, func(tx *Tx) error {
		n, err = tx.bolt.WriteTo(w)
		return err
	})
	return n, err
}
