package store

import (
	"errors"
	"fmt"
	"slices"

	bolt "go.etcd.io/bbolt"
)

// Tx is a transaction: what the function given to [Store.View] or [Store.Update] works with. It is for that
// function's goroutine and ends with it. Reading in an Update sees what the function wrote before.
//
// Its methods return no errors. The first thing that goes wrong (a write in a View, a key that is too long, a
// damaged page) stays with the Tx, and View or Update returns it, whatever the function itself returns.
type Tx struct {
	bolt    *bolt.Tx
	overlay *node // nil in a View
	opened  [mostOpened]opened
	after   []func()
	err     error
}

// outcome is the error of a function that has ended with err: what went wrong in the Tx comes first, because err
// may follow from it.
func (tx *Tx) outcome(err error) error {
	if tx.err != nil {
		return tx.err
	}
	return err
}

func (tx *Tx) fail(err error) {
	if tx.err == nil {
		tx.err = err
	}
}

// guarded reads pages, and keeps what a damaged one makes bbolt panic with.
func (tx *Tx) guarded(read func()) {
	defer func() {
		if p := recover(); p != nil {
			tx.fail(corrupt(p))
		}
	}()
	read()
}

// Writable says whether the transaction can change anything.
func (tx *Tx) Writable() bool { return tx.overlay != nil }

func (tx *Tx) writable() bool {
	if tx.overlay == nil {
		tx.fail(errors.New("a View tried to change the state"))
	}
	return tx.overlay != nil
}

// OnCommit has fn run when the change is on disk, before Update returns; of several, and over all changes, in the
// order of the changes. It does not run where the change fails, or in a View. It must be quick and must not call
// the Store: everybody's next change waits for it.
func (tx *Tx) OnCommit(fn func()) { tx.after = append(tx.after, fn) }

// Bucket gives a bucket by its path, which has at least one name. One that is not there reads as empty, and is
// made, with those above it, by its first Put. Names have 1 to [MaxKey] bytes, and no bucket has the name of a
// key beside it.
func (tx *Tx) Bucket(path ...string) *Bucket {
	b := &Bucket{tx: tx, path: slices.Clone(path)}
	if _, hidden := tx.overlay.find(path); !hidden && !reserved(path) {
		tx.guarded(func() { b.bolt = tx.find(path) })
	}
	return b
}

// opened is a bucket that a View found below another one, or below none. What a View reads lies close together, and
// opening a bucket is most of the work of reading a value; bbolt remembers the open ones in a writer only.
type opened struct {
	above, bucket *bolt.Bucket
	name          string
}

// mostOpened is enough for one function's state of one domain.
const mostOpened = 4

// find gives a bucket as the store has it, nil where it has none.
func (tx *Tx) find(path []string) *bolt.Bucket {
	if tx.overlay != nil {
		return find(tx.bolt, path)
	}
	var b *bolt.Bucket
	for _, name := range path {
		if b = tx.open(b, name); b == nil {
			return nil
		}
	}
	return b
}

func (tx *Tx) open(above *bolt.Bucket, name string) (b *bolt.Bucket) {
	free := -1
	for i := range tx.opened {
		o := &tx.opened[i]
		if o.bucket == nil {
			free = i
			break
		}
		if o.above == above && o.name == name {
			return o.bucket
		}
	}
	if above == nil {
		b = tx.bolt.Bucket([]byte(name))
	} else {
		b = above.Bucket([]byte(name))
	}
	if b != nil && free >= 0 {
		tx.opened[free] = opened{above, b, name}
	}
	return b
}

// Buckets gives the names of the buckets below a path, sorted; without a path, of the outermost ones.
func (tx *Tx) Buckets(path ...string) []string {
	n, hidden := tx.overlay.find(path)
	var names []string
	if !hidden {
		tx.guarded(func() {
			var h holder = tx.bolt
			if len(path) > 0 {
				b := tx.find(path)
				if b == nil {
					return
				}
				h = b
			}
			c := h.Cursor()
			for k, v := c.First(); k != nil; k, v = c.Next() {
				if v == nil { // a bucket
					names = append(names, string(k))
				}
			}
		})
		names = slices.DeleteFunc(names, func(name string) bool {
			if len(path) == 0 && name == metaBucket {
				return true
			}
			return n != nil && n.children[name] != nil && n.children[name].hides
		})
	}
	if n != nil {
		for name, child := range n.children {
			if child.made {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// DeleteBucket takes a bucket away with everything below it, its sequence too. One that is not there is fine.
func (tx *Tx) DeleteBucket(path ...string) {
	if !tx.writable() || !tx.valid(path) {
		return
	}
	last := len(path) - 1
	parent := tx.overlay.reach(path[:last])
	if parent.children == nil {
		parent.children = map[string]*node{}
	}
	parent.children[path[last]] = &node{hides: true}
}

// NextSequence raises the number of a bucket and gives it. The first is 1. No number is given twice while the
// bucket is there, unless the change that it was given in fails.
func (tx *Tx) NextSequence(path ...string) uint64 {
	b := tx.Bucket(path...)
	n := b.made()
	if n == nil {
		return 0
	}
	var last uint64
	if n.sequence != nil {
		last = *n.sequence
	} else if _, hidden := tx.overlay.find(path); !hidden && b.bolt != nil {
		tx.guarded(func() { last = b.bolt.Sequence() })
	}
	last++
	n.sequence = &last
	return last
}

// valid keeps a path from bbolt that it would refuse.
func (tx *Tx) valid(path []string) bool {
	if len(path) == 0 {
		tx.fail(errors.New("a change of the state names no bucket"))
		return false
	}
	if reserved(path) {
		tx.fail(fmt.Errorf("the bucket %q is the store's own", metaBucket))
		return false
	}
	for _, name := range path {
		if len(name) == 0 || len(name) > MaxKey {
			tx.fail(fmt.Errorf("the bucket %q: a name has %d bytes; 1 to %d are allowed", spoken(path), len(name), MaxKey))
			return false
		}
	}
	return true
}

// reserved tells the store's own bucket, which holds the schema version.
func reserved(path []string) bool { return len(path) > 0 && path[0] == metaBucket }
