package audit_test

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"biosv/security/audit"
	"biosv/store"
)

// changed is a change that a guest made.
func changed(domain string) audit.Row {
	return audit.Row{ID: "1", Principal: "guest " + domain, Door: "uefi", Phase: "OperatingSystem", Domain: domain, Operation: "SetVariable", Outcome: "Done"}
}

// total is how many requests the rows of a domain stand for.
func total(rows []audit.Row, domain string) (n uint64) {
	for _, r := range rows {
		if r.Domain == domain {
			n += r.Count
		}
	}
	return n
}

const atOnce = 1000 // rows

func TestAGuestThatNeverStopsChangingCostsARowAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t)
		f, l, _ := refusals(t, s)
		record := func(r audit.Row, times int) {
			update(t, s, func(tx *store.Tx) error {
				for range times {
					if err := l.Record(tx, r); err != nil {
						return err
					}
				}
				return nil
			})
		}
		const minutes, each, pause = 5, 50, 10 * time.Second // in each of which it may have one row more
		const times = minutes * int(time.Minute/pause)
		record(changed("busy"), atOnce)
		record(changed("quiet"), 10)
		for range times {
			time.Sleep(pause)
			record(changed("busy"), each)
		}
		const others = 100 // who are no guests
		record(audit.Row{ID: "2", Principal: "admin", Door: "soap", Domain: "busy", Operation: "SetVariable", Outcome: "Done"}, others)
		f.Close()
		rows := list(t, s, l)
		if n := total(rows, "busy"); n != uint64(atOnce+times*each+others) {
			t.Errorf("the rows stand for %d changes", n)
		}
		most := atOnce + times + minutes + 1 + 10 + others
		if len(rows) > most || total(rows, "quiet") != 10 {
			t.Errorf("there are %d rows, and %d changes of the other guest; want %d at most, and 10", len(rows), total(rows, "quiet"), most)
		}
		counted := slices.IndexFunc(rows, func(r audit.Row) bool { return r.Count > 1 })
		if counted < atOnce || !strings.Contains(rows[counted].Detail, "too often for a row each") {
			t.Errorf("row %d is the first that stands for more than one", counted)
		}
		if err := verify(t, s, l); err != nil {
			t.Error(err)
		}
	})
}

// What was counted when the process died has its row when the next one begins; and a change that is undone was not
// counted.
func TestWhatWasCountedOutlivesTheProcess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t)
		l := audit.New(time.Now)
		update(t, s, func(tx *store.Tx) error {
			for range atOnce + 7 {
				if err := l.Record(tx, changed("busy")); err != nil {
					return err
				}
			}
			return nil
		})
		undone := fmt.Errorf("the change is refused after all")
		if err := s.Update(t.Context(), func(tx *store.Tx) error {
			if err := l.Record(tx, changed("busy")); err != nil {
				return err
			}
			return undone
		}); err == nil {
			t.Fatal("it was done")
		}
		next := audit.New(time.Now)
		f := audit.NewRefusals(next, s, slog.New(slog.DiscardHandler))
		defer f.Close()
		rows := list(t, s, next)
		if len(rows) != atOnce+1 || rows[atOnce].Count != 7 {
			t.Errorf("there are %d rows, and the last one is %+v", len(rows), rows[len(rows)-1])
		}
		if err := verify(t, s, next); err != nil {
			t.Error(err)
		}
	})
}

func TestAGuestsRefusalsCostFewRowsWhateverTheySay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t)
		f, l, _ := refusals(t, s)
		const seconds, each = 120, 20
		for i := range seconds * each {
			r := changed("bad")
			r.Outcome, r.Detail = "Refused", fmt.Sprintf("There is no variable %d.", i)
			f.Refuse(t.Context(), r)
			time.Sleep(time.Second / each)
		}
		f.Refuse(t.Context(), refused("10.0.0.1:1000"))
		f.Close()
		rows := list(t, s, l)
		if n := total(rows, "bad"); n != seconds*each || len(rows) > 40 {
			t.Errorf("%d rows stand for %d refusals", len(rows), n)
		}
		if last := counts(rows); !strings.Contains(fmt.Sprint(last), "10.0.0.1:1000 ×1") {
			t.Errorf("another peer's is lost: %v", last)
		}
	})
}
