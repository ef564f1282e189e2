package store

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"

	bolt "go.etcd.io/bbolt"
)

// update is a function that waits for its commit.
type update struct {
	ctx   context.Context
	fn    func(*Tx) error
	after []func()
	err   error
	done  chan struct{}
}

// mostTogether bounds how many updates share a commit.
const mostTogether = 64

// Update changes the state. It returns nil when the change is on disk; with an error, nothing was changed, save
// for one case: where the disk fails while it confirms the very last page, nobody can know, and the Store takes
// no further change until it is opened again.
//
// fn runs once, on a goroutine of the Store, and sees what those before it did, in the same commit too. Its
// error, or its panic as a [PanicError], is its own: others in the commit do not notice. ErrFull is for all of
// them; reading goes on, and changes work again when there is room. A ctx that ends while fn waits for its turn
// takes it out of the queue; once fn runs, the outcome is awaited.
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

// run is the committer: the one goroutine that writes.
func (s *Store) run() {
	debug.SetPanicOnFault(true)
	for {
		select {
		case u := <-s.queue:
			s.settle(s.gather(u))
		case <-s.done:
			return
		}
	}
}

// gather takes those that wait already. It lets those run who are about to queue, and waits for nobody.
func (s *Store) gather(u *update) []*update {
	group := []*update{u}
	yielded := false
	for len(group) < mostTogether {
		select {
		case u := <-s.queue:
			group = append(group, u)
			continue
		default:
		}
		if yielded {
			break
		}
		runtime.Gosched()
		yielded = true
	}
	return group
}

// settle commits a group, runs what was to be run after it, and tells everybody the outcome.
func (s *Store) settle(group []*update) {
	if err := s.write(group); err != nil {
		for _, u := range group {
			if u.err == nil {
				u.err = err
			}
		}
	}
	for _, u := range group {
		for _, fn := range u.after {
			if u.err != nil {
				break
			}
			if err := contained(func() error { fn(); return nil }); err != nil {
				u.err = fmt.Errorf("the change is on disk, and what was to follow it failed: %w", err)
			}
		}
		close(u.done)
	}
}

// write runs the functions of a group and commits what those that succeed did. Things reach the disk in this
// order, and why:
//
//  1. Nothing. Each function fills an overlay, in memory, and only the overlay of one that succeeds is merged
//     into the transaction: one that fails can leave no trace, and nobody must run twice.
//  2. The pages that changed, into free places of the file, and fsync. Cut the power until here and the old meta
//     page still tells of the old pages, all of which are still there.
//  3. The meta page that tells of the new pages, in place of the older one of the two, and fsync. It has a
//     checksum: cut the power while it is written, and the other meta page counts.
//
// Only then does anybody learn of success.
func (s *Store) write(group []*update) (err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.broken != nil {
		return s.broken
	}
	b, err := s.begin()
	if err != nil {
		return err
	}
	defer s.rollback(b)
	changed := false
	for _, u := range group {
		if u.err = u.ctx.Err(); u.err != nil {
			continue
		}
		tx := &Tx{bolt: b, overlay: &node{}}
		if u.err = contained(func() error { return tx.outcome(u.fn(tx)) }); u.err != nil {
			continue
		}
		if err := s.merge(tx.overlay, b); err != nil {
			return err
		}
		changed = changed || !tx.overlay.untouched()
		u.after = tx.after
	}
	if !changed {
		return nil
	}
	return s.finish(b)
}

func (s *Store) begin() (b *bolt.Tx, err error) {
	defer s.breaks(&err)
	if b, err = s.db.Begin(true); err != nil {
		return nil, fmt.Errorf("begin a change of the state: %w", err)
	}
	return b, nil
}

func (s *Store) merge(n *node, b *bolt.Tx) (err error) {
	defer s.breaks(&err)
	return n.merge(b)
}

// finish commits. After an error the transaction may still count: where the meta page was written and the disk
// then failed to confirm it, readers see the change, and a crash may lose it. The next commit would overwrite the
// last meta page that is known to be on disk, so there must be none.
func (s *Store) finish(b *bolt.Tx) (err error) {
	defer s.breaks(&err)
	id := b.ID()
	failed := s.commit(b)
	if failed == nil {
		return nil
	}
	failed = full(fmt.Errorf("commit: %w", failed))
	err = s.db.View(func(now *bolt.Tx) error {
		if now.ID() >= id {
			return errors.New("the disk did not confirm a change that it was given; open the state again")
		}
		return nil
	})
	if err != nil {
		s.broken = fmt.Errorf("%w: %w", err, failed)
		return s.broken
	}
	return failed
}

// rollback gives bbolt's writer lock back. After a commit there is nothing to do.
func (s *Store) rollback(b *bolt.Tx) {
	err := fmt.Errorf("%w: a change could not be taken back", ErrCorrupt)
	func() {
		defer s.breaks(&err)
		_ = b.Rollback() // says that there was a commit
		err = nil
	}()
	s.stuck = s.stuck || err != nil
}

// breaks turns a panic of bbolt's into ErrCorrupt. What bbolt keeps in memory is in no known state after it, so
// nothing is written any more.
func (s *Store) breaks(err *error) {
	if p := recover(); p != nil {
		s.broken = corrupt(p)
		*err = s.broken
	}
}

// contained runs a function of a caller's on a goroutine of its own, and waits for it: its panic, its fault over a
// damaged page, and its runtime.Goexit (which t.FailNow is) are its error, and not the committer's end.
func contained(fn func() error) error {
	err := errors.New("a change of the state ended its goroutine")
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if p := recover(); isFault(p) {
				err = corrupt(p)
			} else if p != nil {
				err = &PanicError{Value: p, Stack: debug.Stack()}
			}
		}()
		debug.SetPanicOnFault(true)
		err = fn()
	}()
	<-done
	return err
}
