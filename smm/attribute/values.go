package attribute

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"biosv/generated"
	"biosv/smm"
	"biosv/store"
)

// The function's part of a domain's state, and the keys in it.
const (
	bucket     = "attribute"
	keyValues  = "values"
	keySaved   = "saved"
	keySecrets = "secrets"
	keyGuesses = "guesses"
)

// values is what is kept of a domain's attributes. It is never changed once it was read or written: a change
// makes another.
type values struct {
	Registry string              // digest of the registry that the values were checked against
	Current  map[string][]string `json:",omitempty"` // what differs from the default
	Pending  map[string]waiting  `json:",omitempty"`
	raw      []byte              // as the store has them
	list     atomic.Pointer[[]generated.AttributeState]
}

// waiting is a value that waits for the next start. That of a Password is with the secrets.
type waiting struct {
	Value []string
	At    time.Time
	By    string
}

func readValues(tx *smm.Tx, key string) (*values, error) {
	v := &values{raw: bytes.Clone(tx.State(bucket).Get([]byte(key)))}
	if v.raw == nil {
		return v, nil
	}
	if err := json.Unmarshal(v.raw, v); err != nil {
		return nil, fmt.Errorf("%w: read the attributes of %s: %w", store.ErrCorrupt, tx.Domain.Name, err)
	}
	return v, nil
}

// load reads the values. Reading them again costs a comparison: what was made of the same bytes is used again.
func (r *registry) load(tx *smm.Tx) (*values, error) {
	if v := r.last.Load(); v != nil && bytes.Equal(v.raw, tx.State(bucket).Get([]byte(keyValues))) {
		return v, nil
	}
	v, err := readValues(tx, keyValues)
	if err != nil {
		return nil, err
	}
	r.prune(v)
	r.last.Store(v)
	return v, nil
}

// prune takes out what the registry does not allow, as one that came with an upgrade may not: values of attributes
// that are gone, or that cannot be written any more, and values that their definitions refuse. These
// attributes have their defaults then. The store keeps the values until the next change.
func (r *registry) prune(v *values) {
	if v.Registry == r.digest {
		return
	}
	allowed := func(name string, value []string) ([]string, bool) {
		d := r.byName[name]
		if d == nil || !d.writable() {
			return nil, false
		}
		if d.secret() {
			return nil, value == nil
		}
		kept, refusal := d.check(value)
		return kept, refusal == nil
	}
	for name, value := range v.Current {
		kept, ok := allowed(name, value)
		if !ok || slices.Equal(kept, r.byName[name].DefaultValue) {
			delete(v.Current, name)
		} else {
			v.Current[name] = kept
		}
	}
	for name, w := range v.Pending {
		kept, ok := allowed(name, w.Value)
		if !ok {
			delete(v.Pending, name)
		} else {
			w.Value = kept
			v.Pending[name] = w
		}
	}
	v.Registry = r.digest
}

// current is the value in force.
func (v *values) current(d *definition) []string {
	if value, ok := v.Current[d.Name]; ok {
		return value
	}
	return d.DefaultValue
}

// next is the value that waits, or where none does the one in force.
func (v *values) next(d *definition) []string {
	if w, ok := v.Pending[d.Name]; ok {
		return w.Value
	}
	return v.current(d)
}

// state is what the contract tells of an attribute.
func (v *values) state(d *definition, s *generated.AttributeState) {
	s.Name, s.AttributeKind = d.Name, d.AttributeKind
	if !d.secret() {
		s.CurrentValue = v.current(d)
	}
	if w, ok := v.Pending[d.Name]; ok {
		s.Pending, s.PendingValue = true, w.Value
	}
}

// states tells of some attributes.
func (v *values) states(list []*definition) []*generated.AttributeState {
	return pointers(v.tell(list))
}

// shown tells of all attributes that are not hidden. What it tells is put together once.
func (v *values) shown(r *registry) []*generated.AttributeState {
	list := v.list.Load()
	if list == nil {
		list = new(v.tell(r.shown(v)))
		v.list.Store(list)
	}
	return pointers(slices.Clone(*list))
}

func (v *values) tell(list []*definition) []generated.AttributeState {
	states := make([]generated.AttributeState, len(list))
	for i, d := range list {
		v.state(d, &states[i])
	}
	return states
}

func pointers(states []generated.AttributeState) []*generated.AttributeState {
	list := make([]*generated.AttributeState, len(states))
	for i := range states {
		list[i] = &states[i]
	}
	return list
}

// settings are the values in force as a machine gets them, its own to keep.
func (v *values) settings() smm.Settings {
	s := make(smm.Settings, len(v.Current))
	for name, value := range v.Current {
		s[name] = slices.Clone(value)
	}
	return s
}

// clone makes values that can be changed.
func (v *values) clone() *values {
	c := &values{Registry: v.Registry, Current: maps.Clone(v.Current), Pending: maps.Clone(v.Pending)}
	if c.Current == nil {
		c.Current = map[string][]string{}
	}
	if c.Pending == nil {
		c.Pending = map[string]waiting{}
	}
	return c
}

// put makes a value the one in force.
func (v *values) put(d *definition, value []string) {
	delete(v.Pending, d.Name)
	if d.secret() || slices.Equal(value, d.DefaultValue) {
		delete(v.Current, d.Name)
	} else {
		v.Current[d.Name] = value
	}
}

// save writes the values.
func (r *registry) save(tx *smm.Tx, v *values) error {
	v.Registry = r.digest
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write the attributes of %s: %w", tx.Domain.Name, err)
	}
	v.raw = raw
	tx.State(bucket).Put([]byte(keyValues), raw)
	r.last.Store(v)
	return nil
}
