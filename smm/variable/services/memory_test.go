package services

import (
	"bytes"
	"slices"
)

// Memory is a State in a map.
type Memory map[Key]Variable

func (m Memory) Get(k Key) (Variable, bool, error) {
	v, ok := m[k]
	return v, ok, nil
}

func (m Memory) Put(k Key, v Variable) error {
	m[k] = v
	return nil
}

func (m Memory) Delete(k Key) error {
	delete(m, k)
	return nil
}

func (m Memory) Scan(after Key, fn func(Key, Variable) bool) error {
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

// TestLimits are those of the flash of OVMF, more or less.
var TestLimits = Limits{Name: 1024, Variable: 0x10000, NonVolatile: 200_000, Volatile: 100_000, HardwareError: 0x8000}
