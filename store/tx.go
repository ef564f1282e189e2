package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"

	bolt "go.etcd.io/bbolt"
)

// Tx is a transaction. It is not for concurrent use.
type Tx struct {
	bolt    *bolt.Tx
	overlay *overlay // nil in a View
	after   []func()
	err     error
}

// overlay is what a function changed and the store does not have yet.
type overlay struct {
	deleted map[string]bool              // buckets taken away with all below, before the values were put
	values  map[string]map[string][]byte // by bucket path, by key; nil is deleted
}

func newOverlay() *overlay {
	return &overlay{deleted: map[string]bool{}, values: map[string]map[string][]byte{}}
}

func (o *overlay) empty() bool { return len(o.deleted) == 0 && len(o.values) == 0 }

const separator = "\x00"

// merge puts the overlay's changes into the transaction.
func (o *overlay) merge(b *bolt.Tx) error {
	for path := range o.deleted {
		parts := strings.Split(path, separator)
		last := len(parts) - 1
		var err error
		if last == 0 {
			err = b.DeleteBucket([]byte(parts[0]))
		} else if parent := find(b, parts[:last]); parent != nil {
			err = parent.DeleteBucket([]byte(parts[last]))
		}
		if err != nil && !errors.Is(err, bolt.ErrBucketNotFound) {
			return fmt.Errorf("delete the bucket %q: %w", parts, err)
		}
	}
	for path, values := range o.values {
		bucket, err := ensure(b, strings.Split(path, separator))
		if err != nil {
			return err
		}
		for k, v := range values {
			if v == nil {
				err = bucket.Delete([]byte(k))
			} else {
				err = bucket.Put([]byte(k), v)
			}
			if err != nil {
				return fmt.Errorf("write %q: %w", k, err)
			}
		}
	}
	return nil
}

func ensure(b *bolt.Tx, path []string) (*bolt.Bucket, error) {
	bucket, err := b.CreateBucketIfNotExists([]byte(path[0]))
	for _, p := range path[1:] {
		if err != nil {
			break
		}
		bucket, err = bucket.CreateBucketIfNotExists([]byte(p))
	}
	if err != nil {
		return nil, fmt.Errorf("make the bucket %q: %w", path, err)
	}
	return bucket, nil
}

func find(b *bolt.Tx, path []string) *bolt.Bucket {
	bucket := b.Bucket([]byte(path[0]))
	for _, p := range path[1:] {
		if bucket == nil {
			return nil
		}
		bucket = bucket.Bucket([]byte(p))
	}
	return bucket
}

// Writable says whether the transaction can change anything.
func (tx *Tx) Writable() bool { return tx.overlay != nil }

// OnCommit has fn run when the transaction is on disk.
func (tx *Tx) OnCommit(fn func()) { tx.after = append(tx.after, fn) }

// Bucket gives a bucket by its path. One that is not there reads as empty and is made by the first Put.
func (tx *Tx) Bucket(path ...string) *Bucket {
	b := &Bucket{tx: tx, path: strings.Join(path, separator)}
	if !tx.gone(b.path) {
		b.bolt = find(tx.bolt, path)
	}
	return b
}

// gone says whether the overlay took a bucket, or one that it is in, away.
func (tx *Tx) gone(path string) bool {
	if tx.overlay == nil || len(tx.overlay.deleted) == 0 {
		return false
	}
	for {
		if tx.overlay.deleted[path] {
			return true
		}
		i := strings.LastIndex(path, separator)
		if i < 0 {
			return false
		}
		path = path[:i]
	}
}

// Buckets gives the names of the buckets below a path, sorted.
func (tx *Tx) Buckets(path ...string) []string {
	names := map[string]bool{}
	joined := strings.Join(path, separator)
	if b := find(tx.bolt, path); b != nil {
		_ = b.ForEachBucket(func(k []byte) error { // fn gives no error
			if !tx.gone(joined + separator + string(k)) {
				names[string(k)] = true
			}
			return nil
		})
	}
	if tx.overlay != nil {
		for p := range tx.overlay.values {
			if rest, ok := strings.CutPrefix(p, joined+separator); ok {
				name, _, _ := strings.Cut(rest, separator)
				names[name] = true
			}
		}
	}
	out := make([]string, 0, len(names))
	for name := range names {
		out = append(out, name)
	}
	sort.Strings(out)
	return out
}

// DeleteBucket takes a bucket away with everything below it.
func (tx *Tx) DeleteBucket(path ...string) {
	if !tx.writable() {
		return
	}
	joined := strings.Join(path, separator)
	for p := range tx.overlay.values {
		if p == joined || strings.HasPrefix(p, joined+separator) {
			delete(tx.overlay.values, p)
		}
	}
	tx.overlay.deleted[joined] = true
}

func (tx *Tx) writable() bool {
	if tx.overlay == nil && tx.err == nil {
		tx.err = errors.New("a View tried to write")
	}
	return tx.overlay != nil
}

// Bucket holds keys and values. What it gives is valid until the transaction ends.
type Bucket struct {
	tx   *Tx
	path string
	bolt *bolt.Bucket
}

func (b *Bucket) changes() map[string][]byte {
	if b.tx.overlay == nil {
		return nil
	}
	return b.tx.overlay.values[b.path]
}

// Get gives a value, nil where there is none.
func (b *Bucket) Get(key []byte) []byte {
	if v, ok := b.changes()[string(key)]; ok {
		return v
	}
	if b.bolt == nil || b.tx.gone(b.path) {
		return nil
	}
	return b.bolt.Get(key)
}

// Put sets a value. Keys have 1 to 32,768 bytes.
func (b *Bucket) Put(key, value []byte) {
	if value == nil {
		value = []byte{}
	}
	b.set(key, slices.Clone(value))
}

// Delete takes a value away.
func (b *Bucket) Delete(key []byte) { b.set(key, nil) }

func (b *Bucket) set(key, value []byte) {
	if !b.tx.writable() {
		return
	}
	if len(key) == 0 || len(key) > bolt.MaxKeySize {
		b.tx.err = fmt.Errorf("a key has %d bytes; 1 to %d are allowed", len(key), bolt.MaxKeySize)
		return
	}
	values := b.tx.overlay.values[b.path]
	if values == nil {
		values = map[string][]byte{}
		b.tx.overlay.values[b.path] = values
	}
	values[string(key)] = value
}

// Scan gives keys and values in rising order, beginning at from, until fn says false.
func (b *Bucket) Scan(from []byte, fn func(k, v []byte) bool) {
	var k, v []byte
	var c *bolt.Cursor
	if b.bolt != nil && !b.tx.gone(b.path) {
		c = b.bolt.Cursor()
		k, v = c.Seek(from)
	}
	changes := b.changes()
	keys := make([]string, 0, len(changes))
	for key := range changes {
		if key >= string(from) {
			keys = append(keys, key)
		}
	}
	sort.Strings(keys)
	for k != nil || len(keys) > 0 {
		switch {
		case len(keys) == 0 || k != nil && bytes.Compare(k, []byte(keys[0])) < 0:
			if v != nil && !fn(k, v) { // v is nil for a bucket
				return
			}
			k, v = c.Next()
		default:
			if k != nil && string(k) == keys[0] {
				k, v = c.Next()
			}
			if value := changes[keys[0]]; value != nil && !fn([]byte(keys[0]), value) {
				return
			}
			keys = keys[1:]
		}
	}
}

// Last gives the greatest key with its value, nil where there is none.
func (b *Bucket) Last() (key, value []byte) {
	if b.bolt != nil && !b.tx.gone(b.path) {
		c := b.bolt.Cursor()
		for k, v := c.Last(); k != nil; k, v = c.Prev() {
			if change, ok := b.changes()[string(k)]; v != nil && (!ok || change != nil) {
				key, value = k, v
				if ok {
					value = change
				}
				break
			}
		}
	}
	for k, v := range b.changes() {
		if v != nil && (key == nil || k > string(key)) {
			key, value = []byte(k), v
		}
	}
	return key, value
}

// GetJSON gives a value that [PutJSON] put.
func GetJSON[T any](b *Bucket, key string) (v T, ok bool, err error) {
	raw := b.Get([]byte(key))
	if raw == nil {
		return v, false, nil
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		return v, false, fmt.Errorf("%w: %s/%s: %w", ErrCorrupt, strings.ReplaceAll(b.path, separator, "/"), key, err)
	}
	return v, true, nil
}

// PutJSON puts a value as JSON.
func PutJSON(b *Bucket, key string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write %s: %w", key, err)
	}
	b.Put([]byte(key), raw)
	return nil
}
