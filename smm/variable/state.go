package variable

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"biosv/smm"
	"biosv/smm/variable/auth"
	"biosv/smm/variable/efi"
	"biosv/smm/variable/services"
	"biosv/store"
)

// bucket is what the function keeps of a domain: each variable under [services.Key.Bytes].
const bucket = "variable"

// state makes a bucket of the store a [services.State].
type state struct{ *store.Bucket }

// openState gives the state of a domain's variables. A domain that has none yet has those that firmware makes at each
// start, also where only a View asks.
func openState(tx *smm.Tx, s *services.Services) (services.State, error) {
	kept := state{tx.State(bucket)}
	if key, _ := kept.Last(); key != nil {
		return kept, nil
	}
	if tx.Store().Writable() {
		s.State = kept
		return kept, s.Start()
	}
	fresh := fresh{}
	s.State = fresh
	return fresh, s.Start()
}

func (s state) Get(k services.Key) (services.Variable, bool, error) {
	raw := s.Bucket.Get(k.Bytes())
	if raw == nil {
		return services.Variable{}, false, nil
	}
	v, err := decode(raw)
	if err != nil {
		return v, false, fmt.Errorf("%w: read the variable %s: %w", store.ErrCorrupt, k, err)
	}
	v.Data = slices.Clone(v.Data) // it may outlive the transaction
	return v, true, nil
}

func (s state) Put(k services.Key, v services.Variable) error {
	s.Bucket.Put(k.Bytes(), encode(v))
	return nil
}

func (s state) Delete(k services.Key) error {
	s.Bucket.Delete(k.Bytes())
	return nil
}

// Scan gives values in the store's own memory, which are not read after the transaction.
func (s state) Scan(after services.Key, fn func(services.Key, services.Variable) bool) (err error) {
	from := after.Bytes()
	s.Bucket.Scan(from, func(key, raw []byte) bool {
		if slices.Equal(key, from) {
			return true
		}
		if len(key) <= len(efi.GUID{}) {
			err = fmt.Errorf("%w: %x is the key of no variable", store.ErrCorrupt, key)
			return false
		}
		k := services.KeyOf(key)
		var v services.Variable
		if v, err = decode(raw); err != nil {
			err = fmt.Errorf("%w: read the variable %s: %w", store.ErrCorrupt, k, err)
			return false
		}
		return fn(k, v)
	})
	return err
}

// A variable is kept as a format byte, its attributes, its time stamp, its owner where the format says that there is
// one, and its value.
const (
	formatPlain = 1
	formatOwned = 2
	headerSize  = 1 + 4 + efi.TimeSize
)

func encode(v services.Variable) []byte {
	b := make([]byte, 0, headerSize+len(auth.Owner{})+len(v.Data))
	b = append(b, formatPlain)
	b = binary.LittleEndian.AppendUint32(b, uint32(v.Attributes))
	b = append(b, v.TimeStamp[:]...)
	if v.Owner != nil {
		b[0] = formatOwned
		b = append(b, v.Owner[:]...)
	}
	return append(b, v.Data...)
}

// decode reads what encode wrote; the value stays where it is.
func decode(b []byte) (v services.Variable, err error) {
	if len(b) < headerSize || b[0] == formatOwned && len(b) < headerSize+len(auth.Owner{}) {
		return v, fmt.Errorf("it has %d bytes only", len(b))
	}
	v.Attributes = efi.Attributes(binary.LittleEndian.Uint32(b[1:]))
	v.TimeStamp = efi.Time(b[5:headerSize])
	rest := b[headerSize:]
	switch b[0] {
	case formatOwned:
		o := auth.Owner(rest[:len(auth.Owner{})])
		v.Owner, rest = &o, rest[len(o):]
	case formatPlain:
	default:
		return v, fmt.Errorf("its format is %d", b[0])
	}
	v.Data = rest
	return v, nil
}

// fresh is a state that is in no store: of a domain without variables within a View, which cannot write them, and of a
// flash that is imported.
type fresh map[services.Key]services.Variable

func (f fresh) Get(k services.Key) (services.Variable, bool, error) {
	v, ok := f[k]
	return v, ok, nil
}

func (f fresh) Put(k services.Key, v services.Variable) error {
	f[k] = v
	return nil
}

func (f fresh) Delete(k services.Key) error {
	delete(f, k)
	return nil
}

func (f fresh) Scan(after services.Key, fn func(services.Key, services.Variable) bool) error {
	for _, k := range f.keys() {
		if slices.Compare(k.Bytes(), after.Bytes()) > 0 && !fn(k, f[k]) {
			break
		}
	}
	return nil
}

// keys are in their order.
func (f fresh) keys() []services.Key {
	return slices.SortedFunc(maps.Keys(f), func(a, b services.Key) int { return slices.Compare(a.Bytes(), b.Bytes()) })
}
