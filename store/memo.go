package store

import "sync"

// Memo does what [GetJSON] does, for values that every request reads and that seldom change: it remembers what bytes
// were decoded to. Since it goes by the bytes, it knows of every change, and what it gives is what the transaction
// reads. T holds nothing that a reader could change, since all get the same. The zero value is ready, and safe for
// concurrent use.
type Memo[T any] struct {
	mu      sync.RWMutex
	decoded map[string]T
}

// mostDecoded bounds what a Memo remembers; then it begins anew.
const mostDecoded = 4096

// Get gives a value that [PutJSON] put, and says whether there is one.
func (m *Memo[T]) Get(b *Bucket, key string) (v T, ok bool, err error) {
	raw := b.Get([]byte(key))
	if raw == nil {
		return v, false, nil
	}
	m.mu.RLock()
	v, ok = m.decoded[string(raw)]
	m.mu.RUnlock()
	if ok {
		return v, true, nil
	}
	if v, ok, err = decode[T](b, key, raw); !ok {
		return v, ok, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.decoded == nil || len(m.decoded) >= mostDecoded {
		m.decoded = map[string]T{}
	}
	m.decoded[string(raw)] = v
	return v, true, nil
}
