package store

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	bolt "go.etcd.io/bbolt"
)

// The limits of what a bucket takes. A key has at least one byte; a value may be empty.
const (
	MaxKey   = bolt.MaxKeySize // bytes of a key, and of a bucket's name
	MaxValue = 16 << 20        // bytes of a value
)

// Bucket holds keys with their values, in the order of the keys' bytes.
//
// IMPORTANT: the slices that Get, Scan, ScanBack and Last give are the store's own memory. Read them; do not
// change them, and copy what must outlive the function that the transaction belongs to. What is given to Put is
// copied and can be used again.
type Bucket struct {
	tx   *Tx
	path []string
	bolt *bolt.Bucket // nil where the store has none
}

// stored is the bucket as the store has it, nil where it has none or the transaction deleted it.
func (b *Bucket) stored() *bolt.Bucket {
	if _, hidden := b.tx.overlay.find(b.path); hidden {
		return nil
	}
	return b.bolt
}

// Get gives a value: nil where there is none, and not nil where it is empty.
func (b *Bucket) Get(key []byte) (value []byte) {
	if n, _ := b.tx.overlay.find(b.path); n != nil {
		if value, ok := n.values[string(key)]; ok {
			return value
		}
	}
	if stored := b.stored(); stored != nil {
		b.tx.guarded(func() { value = stored.Get(key) })
	}
	return value
}

// Put sets a value. Keys have 1 to [MaxKey] bytes, values 0 to [MaxValue], and no key has the name of a bucket
// beside it.
func (b *Bucket) Put(key, value []byte) {
	n := b.made()
	if n == nil {
		return
	}
	switch {
	case len(key) == 0 || len(key) > MaxKey:
		b.tx.fail(fmt.Errorf("put into %q: the key has %d bytes; 1 to %d are allowed", spoken(b.path), len(key), MaxKey))
	case len(value) > MaxValue:
		b.tx.fail(fmt.Errorf("put %q into %q: the value has %d bytes; %d are allowed", key, spoken(b.path), len(value), MaxValue))
	case b.holds(string(key)):
		b.tx.fail(fmt.Errorf("put %q into %q: a bucket has that name", key, spoken(b.path)))
	default:
		n.set(string(key), append([]byte{}, value...))
	}
}

// Delete takes a value away. One that is not there is fine.
func (b *Bucket) Delete(key []byte) {
	if !b.tx.writable() || !b.tx.valid(b.path) || b.Get(key) == nil {
		return
	}
	b.tx.overlay.reach(b.path).set(string(key), nil)
}

func (n *node) set(key string, value []byte) {
	if n.values == nil {
		n.values = map[string][]byte{}
	}
	n.values[key] = value
}

// made gives the bucket's node, after it made the bucket and those above it where they were not; nil where that
// cannot be, which the Tx then knows.
func (b *Bucket) made() *node {
	if !b.tx.writable() || !b.tx.valid(b.path) {
		return nil
	}
	if n, _ := b.tx.overlay.find(b.path); n != nil && n.made {
		return n
	}
	for i := 1; i < len(b.path); i++ {
		if b.tx.Bucket(b.path[:i]...).Get([]byte(b.path[i])) != nil {
			b.tx.fail(fmt.Errorf("make the bucket %q: %q is a key", spoken(b.path), spoken(b.path[:i+1])))
			return nil
		}
	}
	for i := range b.path {
		b.tx.overlay.reach(b.path[:i+1]).made = true
	}
	return b.tx.overlay.reach(b.path)
}

// holds says whether there is a bucket of that name below this one.
func (b *Bucket) holds(name string) (there bool) {
	if n, _ := b.tx.overlay.find(b.path); n != nil && n.children[name] != nil {
		if child := n.children[name]; child.made || child.hides {
			return child.made
		}
	}
	if stored := b.stored(); stored != nil {
		b.tx.guarded(func() { there = stored.Bucket([]byte(name)) != nil })
	}
	return there
}

// Scan gives keys with their values in rising order, from the first that is not less than from, until fn returns
// false. It gives the bucket as it was when Scan began: fn may write to it.
func (b *Bucket) Scan(from []byte, fn func(k, v []byte) bool) { b.walk(from, false, fn) }

// ScanBack gives them in falling order, from the last that is not greater than from; an empty from is the end.
func (b *Bucket) ScanBack(from []byte, fn func(k, v []byte) bool) { b.walk(from, true, fn) }

// Last gives the greatest key with its value, nil where there is none.
func (b *Bucket) Last() (key, value []byte) {
	b.ScanBack(nil, func(k, v []byte) bool {
		key, value = k, v
		return false
	})
	return key, value
}

// Len counts the keys, by reading them all.
func (b *Bucket) Len() (n int) {
	b.Scan(nil, func(_, _ []byte) bool {
		n++
		return true
	})
	return n
}

// pair is a key that the transaction changed; a nil value is deleted.
type pair struct {
	key   string
	value []byte
}

// walk merges what the store has with what the transaction changed: two sorted rows, of which the second counts
// where both have a key.
func (b *Bucket) walk(from []byte, back bool, fn func(k, v []byte) bool) {
	changed := b.changed(from, back)
	k, v, next := b.cursor(from, back)
	for k != nil || len(changed) > 0 {
		order := -1 // which comes first: the store's (-1), the change (1), or they are the same key (0)
		switch {
		case k == nil:
			order = 1
		case len(changed) > 0:
			if order = strings.Compare(string(k), changed[0].key); back {
				order = -order
			}
		}
		if order < 0 {
			if v != nil && !fn(k, v) { // a bucket has no value
				return
			}
			k, v = next()
			continue
		}
		if order == 0 {
			k, v = next()
		}
		if change := changed[0]; change.value != nil && !fn([]byte(change.key), change.value) {
			return
		}
		changed = changed[1:]
	}
}

// changed gives the keys that the transaction changed, from one on and in the order of the walk.
func (b *Bucket) changed(from []byte, back bool) (pairs []pair) {
	n, _ := b.tx.overlay.find(b.path)
	if n == nil {
		return nil
	}
	for key, value := range n.values {
		if back && (len(from) == 0 || key <= string(from)) || !back && key >= string(from) {
			pairs = append(pairs, pair{key, value})
		}
	}
	slices.SortFunc(pairs, func(x, y pair) int {
		if back {
			x, y = y, x
		}
		return strings.Compare(x.key, y.key)
	})
	return pairs
}

// cursor gives the store's first key of a walk, and what gives the next; a nil key is the end.
func (b *Bucket) cursor(from []byte, back bool) (k, v []byte, next func() (k, v []byte)) {
	stored := b.stored()
	if stored == nil {
		return nil, nil, nil
	}
	var c *bolt.Cursor
	b.tx.guarded(func() {
		c = stored.Cursor()
		switch {
		case !back:
			k, v = c.Seek(from)
		case len(from) == 0:
			k, v = c.Last()
		default:
			if k, v = c.Seek(from); k == nil {
				k, v = c.Last()
			} else if !bytes.Equal(k, from) {
				k, v = c.Prev()
			}
		}
	})
	step := (*bolt.Cursor).Next
	if back {
		step = (*bolt.Cursor).Prev
	}
	return k, v, func() (k, v []byte) {
		b.tx.guarded(func() { k, v = step(c) })
		return k, v
	}
}

// GetJSON gives a value that [PutJSON] put, and says whether there is one.
func GetJSON[T any](b *Bucket, key string) (v T, ok bool, err error) {
	raw := b.Get([]byte(key))
	if raw == nil {
		return v, false, nil
	}
	return decode[T](b, key, raw)
}

func decode[T any](b *Bucket, key string, raw []byte) (v T, ok bool, err error) {
	if err := json.Unmarshal(raw, &v); err != nil {
		return v, false, fmt.Errorf("%w: read %s/%s: %w", ErrCorrupt, spoken(b.path), key, err)
	}
	return v, true, nil
}

// PutJSON puts a value as JSON.
func PutJSON(b *Bucket, key string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write %s/%s: %w", spoken(b.path), key, err)
	}
	b.Put([]byte(key), raw)
	return nil
}
