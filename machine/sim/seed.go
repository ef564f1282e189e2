package sim

import (
	"encoding/binary"
	"hash/fnv"
)

// draw gives a number in [0, 1) that is always the same for a seed, a purpose and an index.
func draw(seed uint32, purpose string, index int64) float64 {
	h := fnv.New64a()
	var b [12]byte
	binary.BigEndian.PutUint32(b[:], seed)
	binary.BigEndian.PutUint64(b[4:], uint64(index))
	h.Write([]byte(purpose))
	h.Write(b[:])
	// FNV leaves neighbours near each other in its upper bits: mix (the finalizer of MurmurHash3, 64 bits).
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	x ^= x >> 33
	return float64(x>>11) / (1 << 53)
}

// between gives such a number in [low, high).
func between(low, high float64, seed uint32, purpose string, index int64) float64 {
	return low + (high-low)*draw(seed, purpose, index)
}
