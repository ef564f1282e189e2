// Package audit keeps who asked for what, and what became of it, so that it can be proved afterwards: each row
// holds the SHA-256 of itself and of the row before, and the store holds the last one, so a row that was changed,
// taken out, or cut off the end is noticed by [Log.Verify]. A row is written in the transaction of the state that
// it tells of. Rows hold no secrets: what a caller puts into Detail is text that people of every role may read.
package audit

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"biosv/store"
)

// Row is one entry.
type Row struct {
	Seq       uint64
	Time      time.Time
	ID        string // of the request
	Principal string
	Door      string
	Phase     string `json:",omitempty"`
	Peer      string `json:",omitempty"`
	Domain    string
	Operation string
	Outcome   string
	Detail    string `json:",omitempty"`
	Count     uint64 // how many requests it stands for
	Hash      Digest
}

// Digest is a SHA-256, in hexadecimal where it is text.
type Digest [sha256.Size]byte

// MarshalText gives hexadecimal.
func (d Digest) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(d[:])), nil }

// UnmarshalText reads hexadecimal.
func (d *Digest) UnmarshalText(text []byte) error {
	if n, err := hex.Decode(d[:], text); err != nil || n != len(d) {
		return fmt.Errorf("%q is no SHA-256", text)
	}
	return nil
}

const (
	bucket      = "audit"
	longestText = 512
	label       = "biosv audit row 1"
)

var headKey = []byte("head")

// Log is the audit log of a store.
type Log struct {
	clock func() time.Time

	mu    sync.Mutex
	right mark // up to where [Log.Verify] found the chain right

	allowing   sync.Mutex
	allowances map[string]*allowance // by domain
	counted    atomic.Bool           // something may wait for [Log.Settle]
}

// New makes a Log.
func New(clock func() time.Time) *Log { return &Log{clock: clock, allowances: map[string]*allowance{}} }

func rows(tx *store.Tx) *store.Bucket { return tx.Bucket(bucket, "rows") }

// Append writes a row, with its place in the chain. A zero time becomes now.
func (l *Log) Append(tx *store.Tx, r Row) (Row, error) {
	last, err := head(tx)
	if err != nil {
		return r, err
	}
	if r.Time.IsZero() {
		r.Time = l.clock()
	}
	r.Time, r.Seq, r.Count = r.Time.UTC(), last.seq+1, max(r.Count, 1)
	for _, s := range []*string{&r.ID, &r.Principal, &r.Door, &r.Phase, &r.Peer, &r.Domain, &r.Operation, &r.Outcome, &r.Detail} {
		*s = clip(*s)
	}
	r.Hash = r.digest(last.digest)
	value, err := json.Marshal(r)
	if err != nil {
		return r, fmt.Errorf("write an audit row: %w", err)
	}
	rows(tx).Put(position(r.Seq), value)
	tx.Bucket(bucket).Put(headKey, append(position(r.Seq), r.Hash[:]...))
	return r, nil
}

// mark is a place in the chain: a row, and its digest. The zero mark is before the first row.
type mark struct {
	seq    uint64
	digest Digest
}

// head gives the place of the newest row.
func head(tx *store.Tx) (m mark, err error) {
	raw := tx.Bucket(bucket).Get(headKey)
	if raw == nil {
		return m, nil
	}
	if len(raw) != 8+sha256.Size {
		return m, fmt.Errorf("%w: its head is damaged", ErrBroken)
	}
	return mark{binary.BigEndian.Uint64(raw), Digest(raw[8:])}, nil
}

// digest is over the label, the digest before and every field, each with its length, so that no two rows can
// be written to give the same bytes.
func (r Row) digest(previous Digest) Digest {
	h := sha256.New()
	part := func(b []byte) {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(b))))
		h.Write(b)
	}
	part([]byte(label))
	part(previous[:])
	part(position(r.Seq))
	part(position(uint64(r.Time.UnixNano())))
	part(position(r.Count))
	for _, s := range []string{r.ID, r.Principal, r.Door, r.Phase, r.Peer, r.Domain, r.Operation, r.Outcome, r.Detail} {
		part([]byte(s))
	}
	return Digest(h.Sum(nil))
}

// List gives at most so many rows, from one on.
func (l *Log) List(tx *store.Tx, from uint64, most int) (list []Row, err error) {
	rows(tx).Scan(position(from), func(_, v []byte) bool {
		var r Row
		if err = json.Unmarshal(v, &r); err != nil {
			err = fmt.Errorf("read the audit log: %w", err)
			return false
		}
		list = append(list, r)
		return len(list) < most
	})
	return list, err
}

// Last is the number of the newest row.
func (l *Log) Last(tx *store.Tx) (uint64, error) {
	m, err := head(tx)
	return m.seq, err
}

func position(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// clip bounds a text that others may have written. What is not UTF-8 would be read as another text than was
// written, and the row would seem to have been changed.
func clip(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= longestText {
		return s
	}
	end := longestText
	for end > 0 && s[end]&0xC0 == 0x80 { // not inside of a character
		end--
	}
	return s[:end] + "…"
}
