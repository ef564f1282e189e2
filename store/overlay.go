package store

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// node is what a function changed in one bucket and below it, and what the store does not have yet. The overlay
// of a transaction is the node of the root.
type node struct {
	hides    bool              // the store's own bucket was deleted, before everything that follows
	made     bool              // a Put made the bucket, or one below it
	values   map[string][]byte // by key; nil is deleted
	sequence *uint64           // nil is as in the store
	children map[string]*node  // by name
}

func (n *node) untouched() bool {
	return !n.hides && len(n.values) == 0 && n.sequence == nil && len(n.children) == 0
}

// find gives the node of a path, nil where nothing was changed, and says whether what the store has there is
// hidden. It can be asked of a nil node, which is that of a View.
func (n *node) find(path []string) (found *node, hidden bool) {
	for _, name := range path {
		if n == nil {
			break
		}
		n = n.children[name]
		hidden = hidden || n != nil && n.hides
	}
	return n, hidden
}

// reach gives the node of a path, and makes it where there is none.
func (n *node) reach(path []string) *node {
	for _, name := range path {
		if n.children == nil {
			n.children = map[string]*node{}
		}
		child := n.children[name]
		if child == nil {
			child = &node{}
			n.children[name] = child
		}
		n = child
	}
	return n
}

// holder is what bbolt's transactions and buckets have in common.
type holder interface {
	Bucket(name []byte) *bolt.Bucket
	CreateBucketIfNotExists(name []byte) (*bolt.Bucket, error)
	DeleteBucket(name []byte) error
	Cursor() *bolt.Cursor
}

// merge puts what was changed below the root into the transaction. The functions of Tx and Bucket let nothing
// through that bbolt would refuse: where it does, a damaged page made a key of a bucket, or a bucket of a key.
func (n *node) merge(root *bolt.Tx) error {
	if err := n.mergeChildren(root); err != nil {
		return fmt.Errorf("%w: change it: %w", ErrCorrupt, err)
	}
	return nil
}

// A name may have been a bucket's and become a key's, or the other way around: first go the buckets that were
// deleted, then keys come and go, then the buckets are filled.
func (n *node) mergeInto(b *bolt.Bucket) error {
	if err := n.deleteHidden(b); err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(n.values)) {
		var err error
		if value := n.values[key]; value != nil {
			err = b.Put([]byte(key), value)
		} else {
			err = b.Delete([]byte(key))
		}
		if err != nil {
			return fmt.Errorf("write %q: %w", key, err)
		}
	}
	if n.sequence != nil {
		if err := b.SetSequence(*n.sequence); err != nil {
			return fmt.Errorf("write a sequence: %w", err)
		}
	}
	return n.fillChildren(b)
}

func (n *node) mergeChildren(h holder) error {
	if err := n.deleteHidden(h); err != nil {
		return err
	}
	return n.fillChildren(h)
}

func (n *node) deleteHidden(h holder) error {
	for name, child := range n.children {
		if !child.hides {
			continue
		}
		err := h.DeleteBucket([]byte(name))
		if err != nil && !errors.Is(err, bolterrors.ErrBucketNotFound) && !errors.Is(err, bolterrors.ErrIncompatibleValue) {
			return fmt.Errorf("delete the bucket %q: %w", name, err)
		}
	}
	return nil
}

func (n *node) fillChildren(h holder) error {
	for _, name := range slices.Sorted(maps.Keys(n.children)) {
		child := n.children[name]
		var b *bolt.Bucket
		var err error
		if child.made {
			b, err = h.CreateBucketIfNotExists([]byte(name))
		} else {
			b = h.Bucket([]byte(name)) // only deletions: nothing to do where there is none
		}
		if err == nil && b != nil {
			err = child.mergeInto(b)
		}
		if err != nil {
			return fmt.Errorf("bucket %q: %w", name, err)
		}
	}
	return nil
}

// find gives a bucket of bbolt by its path, nil where there is none.
func find(root *bolt.Tx, path []string) *bolt.Bucket {
	var h holder = root
	var b *bolt.Bucket
	for _, name := range path {
		if b = h.Bucket([]byte(name)); b == nil {
			return nil
		}
		h = b
	}
	return b
}

// spoken is a path as errors name it.
func spoken(path []string) string { return strings.Join(path, "/") }
