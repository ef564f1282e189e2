package audit

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"biosv/store"
)

// ErrBroken is what [Log.Verify] wraps.
var ErrBroken = errors.New("the audit log was tampered with")

// Verify follows the chain from the first row to the last, and its error names the first row that is not right. What
// it found right it does not read again, so that a log may become long: only the rows that [Log.List] gives for the
// same numbers are read whenever somebody looks at them.
func (l *Log) Verify(tx *store.Tx, from uint64, most int) error {
	last, err := head(tx)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if r, err := read(tx, l.right.seq); l.right.seq > 0 && (err != nil || r.Hash != l.right.digest) {
		l.right = mark{} // another state was restored, or this one is an older one
	}
	if from = max(from, 1); from <= l.right.seq {
		before := mark{seq: from - 1}
		if from > 1 {
			r, err := read(tx, from-1)
			if err != nil {
				return err
			}
			before.digest = r.Hash
		}
		if _, err := before.follow(tx, min(uint64(most), l.right.seq-before.seq)); err != nil {
			return err
		}
	}
	end, err := l.right.follow(tx, math.MaxUint64)
	if err == nil && end != last {
		err = fmt.Errorf("%w: it ends at row %d and should end at row %d", ErrBroken, end.seq, last.seq)
	}
	if err == nil {
		l.right = end
	}
	return err
}

// follow reads rows behind a place, at most so many, and gives the place of the last one.
func (m mark) follow(tx *store.Tx, most uint64) (mark, error) {
	var err error
	rows(tx).Scan(position(m.seq+1), func(k, v []byte) bool {
		if most == 0 {
			return false
		}
		most--
		next := m.seq + 1
		var r Row
		switch {
		case json.Unmarshal(v, &r) != nil:
			err = fmt.Errorf("%w: row %d cannot be read", ErrBroken, next)
		case len(k) != 8 || binary.BigEndian.Uint64(k) != next || r.Seq != next:
			err = fmt.Errorf("%w: row %d is missing", ErrBroken, next)
		case r.digest(m.digest) != r.Hash:
			err = fmt.Errorf("%w: row %d was changed", ErrBroken, next)
		default:
			m = mark{next, r.Hash}
		}
		return err == nil
	})
	return m, err
}

// read gives one row.
func read(tx *store.Tx, seq uint64) (r Row, err error) {
	if err := json.Unmarshal(rows(tx).Get(position(seq)), &r); err != nil {
		return r, fmt.Errorf("%w: row %d cannot be read", ErrBroken, seq)
	}
	return r, nil
}
