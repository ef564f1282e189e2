package services

import (
	"bytes"
	"slices"
)

// memory is a State in a map.
type memory map[Key]Variable

func (m memory) Get(k Key) (Variable, bool, error) {
	v, ok := m[k]
	return v, ok, nil
}

func (m memory) Put(k Key, v Variable) error {
	m[k] = v
	return nil
}

func (m memory) Delete(k Key) error {
	delete(m, k)
	return nil
}

func (m memory) Scan(after Key, fn func(Key, Variable) bool) error {
	var keys []Key
	for k := range m {
		if bytes.Compare(k.Bytes(), after.Bytes()) > 0 {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b Key) int { return bytes.Compare(a.Bytes(), b.Bytes()) })
	for _, k := range keys {
		if !fn(k, m[k]) {
			return nil
		}
	}
	return nil
}

var testLimits = Limits{Name: 1024, Variable: 0x10000, NonVolatile: 200_000, Volatile: 100_000, HardwareError: 0x8000}
