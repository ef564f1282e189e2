package audit_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"biosv/security/audit"
	"biosv/store"
)

func openStore(t testing.TB) *store.Store {
	t.Helper()
	s, err := store.Open(filepath.Join(t.TempDir(), "state.db"), store.Options{NoSync: true}) // no test here cuts the power
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func update(t testing.TB, s *store.Store, fn func(*store.Tx) error) {
	t.Helper()
	if err := s.Update(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

func verify(t testing.TB, s *store.Store, l *audit.Log) error {
	t.Helper()
	return s.View(t.Context(), func(tx *store.Tx) error { return l.Verify(tx, 1, 100) })
}

func list(t testing.TB, s *store.Store, l *audit.Log) (rows []audit.Row) {
	t.Helper()
	if err := s.View(t.Context(), func(tx *store.Tx) (err error) {
		rows, err = l.List(tx, 1, 1<<20)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return rows
}

// filled is a log of rows 1 to n.
func filled(t testing.TB, s *store.Store, n int) *audit.Log {
	t.Helper()
	l := audit.New(time.Now)
	update(t, s, func(tx *store.Tx) error {
		for i := range n {
			if _, err := l.Append(tx, audit.Row{ID: fmt.Sprint(i), Principal: "p", Door: "soap", Domain: "demo", Operation: "SetAttributes", Outcome: "Done"}); err != nil {
				return err
			}
		}
		return nil
	})
	return l
}

func position(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func TestVerifyAcceptsWhatWasWritten(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	l := audit.New(time.Now)
	if err := verify(t, s, l); err != nil {
		t.Errorf("an empty log: %v", err)
	}
	l = filled(t, s, 9)
	at := time.Date(2026, 2, 3, 4, 5, 6, 789, time.FixedZone("", 3600))
	update(t, s, func(tx *store.Tx) error {
		_, err := l.Append(tx, audit.Row{Time: at, ID: "x", Phase: "OS", Peer: "[::1]:1", Detail: "<&\u2028", Count: 7})
		return err
	})
	if err := verify(t, s, l); err != nil {
		t.Error(err)
	}
	rows := list(t, s, l)
	if len(rows) != 10 || rows[0].Seq != 1 || rows[0].Count != 1 || rows[0].Time.IsZero() || !rows[9].Time.Equal(at) || rows[9].Count != 7 || rows[9].Detail != "<&\u2028" {
		t.Errorf("%d rows: %+v … %+v", len(rows), rows[0], rows[len(rows)-1])
	}
}

// A row that was found right is looked at again by who reads it, and by every service that is started.
func TestVerifyReadsAgainOnlyWhatSomebodyLooksAt(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	l := filled(t, s, 9)
	look := func(l *audit.Log, from uint64, most int) error {
		return s.View(t.Context(), func(tx *store.Tx) error { return l.Verify(tx, from, most) })
	}
	if err := look(l, 1, 100); err != nil {
		t.Fatal(err)
	}
	update(t, s, func(tx *store.Tx) error {
		row := tx.Bucket("audit", "rows").Get(position(5))
		tx.Bucket("audit", "rows").Put(position(5), bytes.Replace(row, []byte("SetAttributes"), []byte("GetAttributes"), 1))
		return nil
	})
	for _, row := range []struct {
		log   *audit.Log
		from  uint64
		most  int
		wrong bool
	}{
		{l, 1, 4, false}, {l, 1, 5, true}, {l, 5, 1, true}, {l, 5, 100, true}, {l, 6, 100, false}, {l, 10, 100, false}, {l, 11, 1, false},
		{audit.New(time.Now), 1, 1, true}, {audit.New(time.Now), 9, 1, true},
	} {
		if err := look(row.log, row.from, row.most); (err != nil) != row.wrong {
			t.Errorf("%d rows from %d: %v", row.most, row.from, err)
		}
	}
	update(t, s, func(tx *store.Tx) error {
		_, err := l.Append(tx, audit.Row{ID: "after"})
		tx.Bucket("audit", "rows").Delete(position(9))
		return err
	})
	if err := look(l, 10, 100); err == nil {
		t.Error("a row that is missing before a new one is not noticed")
	}
}

func TestVerifyBeginsAnewWithAnotherState(t *testing.T) {
	t.Parallel()
	s, other := openStore(t), openStore(t)
	l := filled(t, s, 5)
	filled(t, other, 9)
	for _, s := range []*store.Store{s, other, s} {
		if err := verify(t, s, l); err != nil {
			t.Error(err)
		}
	}
}

func TestVerifyNamesTheFirstRowThatIsNotRight(t *testing.T) {
	t.Parallel()
	const n = 5
	edit := func(seq uint64, change func(*audit.Row)) func(*testing.T, *store.Bucket, *store.Bucket) {
		return func(t *testing.T, rows, _ *store.Bucket) {
			var r audit.Row
			if err := json.Unmarshal(rows.Get(position(seq)), &r); err != nil {
				t.Fatal(err)
			}
			change(&r)
			value, err := json.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			rows.Put(position(seq), value)
		}
	}
	for _, row := range []struct {
		name   string
		tamper func(t *testing.T, rows, log *store.Bucket)
		says   string
	}{
		{"principal changed", edit(3, func(r *audit.Row) { r.Principal = "q" }), "row 3 was changed"},
		{"outcome changed", edit(1, func(r *audit.Row) { r.Outcome = "Refused" }), "row 1 was changed"},
		{"time changed", edit(n, func(r *audit.Row) { r.Time = r.Time.Add(1) }), "row 5 was changed"},
		{"count changed", edit(2, func(r *audit.Row) { r.Count++ }), "row 2 was changed"},
		{"number changed", edit(2, func(r *audit.Row) { r.Seq = 7 }), "row 2 is missing"},
		{"text moved from one field to the next", edit(2, func(r *audit.Row) { r.Principal, r.Door = "ps", "oap" }), "row 2 was changed"},
		{"digest changed", edit(4, func(r *audit.Row) { r.Hash[0]++ }), "row 4 was changed"},
		{"row taken out", func(_ *testing.T, rows, _ *store.Bucket) { rows.Delete(position(2)) }, "row 2 is missing"},
		{"first row taken out", func(_ *testing.T, rows, _ *store.Bucket) { rows.Delete(position(1)) }, "row 1 is missing"},
		{"last row taken out", func(_ *testing.T, rows, _ *store.Bucket) { rows.Delete(position(n)) }, "ends at row 4 and should end at row 5"},
		{"rows exchanged", func(_ *testing.T, rows, _ *store.Bucket) {
			two, three := append([]byte(nil), rows.Get(position(2))...), append([]byte(nil), rows.Get(position(3))...)
			rows.Put(position(2), three)
			rows.Put(position(3), two)
		}, "row 2 is missing"},
		{"row doubled", func(_ *testing.T, rows, _ *store.Bucket) {
			rows.Put(position(n+1), append([]byte(nil), rows.Get(position(n))...))
		}, "row 6 is missing"},
		{"row that is no row", func(_ *testing.T, rows, _ *store.Bucket) { rows.Put(position(3), []byte("{")) }, "row 3 cannot be read"},
		{"key that is none", func(_ *testing.T, rows, _ *store.Bucket) { rows.Put([]byte("zzz"), []byte("{}")) }, "row 6 is missing"},
		{"every row taken out", func(_ *testing.T, rows, _ *store.Bucket) {
			for i := range uint64(n) {
				rows.Delete(position(i + 1))
			}
		}, "ends at row 0 and should end at row 5"},
		{"head taken out", func(_ *testing.T, _, log *store.Bucket) { log.Delete([]byte("head")) }, "ends at row 5 and should end at row 0"},
		{"head changed", func(_ *testing.T, _, log *store.Bucket) {
			head := append([]byte(nil), log.Get([]byte("head"))...)
			head[len(head)-1]++
			log.Put([]byte("head"), head)
		}, "should end at row 5"},
		{"head cut", func(_ *testing.T, _, log *store.Bucket) { log.Put([]byte("head"), []byte("x")) }, "head is damaged"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s := openStore(t)
			l := filled(t, s, n)
			update(t, s, func(tx *store.Tx) error {
				row.tamper(t, tx.Bucket("audit", "rows"), tx.Bucket("audit"))
				return nil
			})
			if err := verify(t, s, l); !errors.Is(err, audit.ErrBroken) || !strings.Contains(err.Error(), row.says) {
				t.Errorf("%v; want ErrBroken with %q", err, row.says)
			}
		})
	}
}

func TestAppendRefusesALogWhoseHeadIsDamaged(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	l := filled(t, s, 1)
	update(t, s, func(tx *store.Tx) error { tx.Bucket("audit").Put([]byte("head"), []byte("x")); return nil })
	err := s.Update(t.Context(), func(tx *store.Tx) error {
		_, err := l.Append(tx, audit.Row{ID: "x"})
		return err
	})
	if !errors.Is(err, audit.ErrBroken) {
		t.Error(err)
	}
}

func TestListGivesAPartOfTheLog(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	l := filled(t, s, 10)
	for _, row := range []struct {
		from        uint64
		most        int
		first, last uint64
	}{{1, 3, 1, 3}, {4, 3, 4, 6}, {9, 3, 9, 10}, {11, 3, 0, 0}} {
		var got []audit.Row
		var newest uint64
		if err := s.View(t.Context(), func(tx *store.Tx) (err error) {
			if got, err = l.List(tx, row.from, row.most); err != nil {
				return err
			}
			newest, err = l.Last(tx)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if newest != 10 {
			t.Errorf("the newest row is said to be %d", newest)
		}
		if row.first == 0 {
			if len(got) != 0 {
				t.Errorf("after the end there are %d rows", len(got))
			}
			continue
		}
		if len(got) == 0 || got[0].Seq != row.first || got[len(got)-1].Seq != row.last {
			t.Errorf("from %d, at most %d: %+v", row.from, row.most, got)
		}
	}
}

func TestRowsOfOneChangeAreKeptOrNotTogether(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	l := filled(t, s, 3)
	failed := errors.New("failed")
	err := s.Update(t.Context(), func(tx *store.Tx) error {
		if _, err := l.Append(tx, audit.Row{ID: "lost"}); err != nil {
			return err
		}
		return failed
	})
	if !errors.Is(err, failed) {
		t.Fatal(err)
	}
	if got := len(list(t, s, l)); got != 3 || verify(t, s, l) != nil {
		t.Errorf("%d rows, %v", got, verify(t, s, l))
	}
}

func TestTextOfOthersIsBounded(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	l := audit.New(time.Now)
	long := strings.Repeat("é", 10_000)
	update(t, s, func(tx *store.Tx) error {
		_, err := l.Append(tx, audit.Row{ID: long, Principal: long, Door: long, Phase: long, Peer: long, Domain: long, Operation: long, Outcome: long, Detail: "x" + long})
		return err
	})
	r := list(t, s, l)[0]
	for _, text := range []string{r.ID, r.Principal, r.Door, r.Phase, r.Peer, r.Domain, r.Operation, r.Outcome, r.Detail} {
		if len(text) > 520 || !strings.HasSuffix(text, "é…") {
			t.Errorf("%d bytes, ending in %q", len(text), text[len(text)-8:])
		}
	}
	if err := verify(t, s, l); err != nil {
		t.Error(err)
	}
}

// Whatever a peer makes stand in a row, the row is read as it was written.
func FuzzARowIsReadAsItWasWritten(f *testing.F) {
	f.Add("spiffe://biosv.test/person/alice", "10.0.0.1:1", "RoleTooSmall: no", uint64(1))
	f.Add("", "\xff\xfe", "\xed\xa0\x80", uint64(0)) // no UTF-8: bytes of none, and half of a surrogate pair
	f.Add("\x00\u2028<script>", strings.Repeat("\xff", 600), strings.Repeat("é", 300), ^uint64(0))
	s := openStore(f)
	l := audit.New(time.Now)
	f.Fuzz(func(t *testing.T, principal, peer, detail string, count uint64) {
		update(t, s, func(tx *store.Tx) error {
			tx.DeleteBucket("audit")
			for range 2 {
				if _, err := l.Append(tx, audit.Row{Principal: principal, Peer: peer, Detail: detail, Count: count}); err != nil {
					return err
				}
			}
			return nil
		})
		if err := verify(t, s, l); err != nil {
			t.Errorf("%q, %q, %q: %v", principal, peer, detail, err)
		}
	})
}
