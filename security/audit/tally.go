package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"biosv/store"
)

// Bounds of how many rows the changes of a guest cost. The boot of a machine makes some hundred changes; a guest that
// never stops makes millions a day.
const (
	rowsAtOnce = 1000
	rowEvery   = 10 * time.Second // one more
	// tallyTime is how long changes are counted until there is a row of them.
	tallyTime = time.Minute
)

// guests is the door of virtual machines, which ask without a pause if they like.
const guests = "uefi"

// tally stands for requests that have no row yet: it is in the store as they are. Its key is what they have in common.
type tally struct {
	Row   Row // the newest one, with their count
	Since time.Time
}

func tallies(tx *store.Tx) *store.Bucket { return tx.Bucket(bucket, "tallies") }

// allowance is how many rows a guest may still have.
type allowance struct {
	left float64
	at   time.Time
}

// grow gives it what has come since.
func (a *allowance) grow(now time.Time) {
	a.left, a.at = min(a.left+now.Sub(a.at).Seconds()/rowEvery.Seconds(), rowsAtOnce), now
}

// Record writes a row for a request that is done. What a guest does too often for a row each is counted instead, in the
// same transaction, and gets one row for all that are alike when [Log.Settle] is called.
func (l *Log) Record(tx *store.Tx, r Row) error {
	if r.Time.IsZero() {
		r.Time = l.clock()
	}
	if r.Door != guests || l.affords(r.Domain, r.Time) {
		_, err := l.Append(tx, r)
		return err
	}
	key, err := json.Marshal([]string{r.Principal, r.Phase, r.Domain, r.Operation, r.Outcome, r.Detail})
	if err != nil {
		return fmt.Errorf("count a request for the audit log: %w", err)
	}
	t := tally{Since: r.Time}
	if old := tallies(tx).Get(key); old != nil {
		if err := json.Unmarshal(old, &t); err != nil {
			return fmt.Errorf("count a request for the audit log: %w", err)
		}
	}
	count := t.Row.Count
	t.Row = r
	t.Row.Count = count + max(r.Count, 1)
	value, err := json.Marshal(t)
	if err != nil {
		return fmt.Errorf("count a request for the audit log: %w", err)
	}
	tallies(tx).Put(key, value)
	l.counted.Store(true)
	return nil
}

// affords takes a row from what a domain's guest may still have.
func (l *Log) affords(domain string, now time.Time) bool {
	l.allowing.Lock()
	defer l.allowing.Unlock()
	a := l.allowances[domain]
	if a == nil {
		l.forget(now)
		a = &allowance{left: rowsAtOnce, at: now}
		l.allowances[domain] = a
	}
	a.grow(now)
	if a.left < 1 {
		return false
	}
	a.left--
	return true
}

// forget forgets each that is whole again, as that of a domain that is no more will be. The caller holds allowing.
func (l *Log) forget(now time.Time) {
	for domain, a := range l.allowances {
		if a.grow(now); a.left == rowsAtOnce {
			delete(l.allowances, domain)
		}
	}
}

// Settle makes rows of what was counted.
func (l *Log) Settle(ctx context.Context, s *store.Store) error {
	l.counted.Store(false) // before it is looked: what is counted meanwhile waits for the next time
	some := false
	err := s.View(ctx, func(tx *store.Tx) error { some = tallies(tx).Len() > 0; return nil })
	if err == nil && some {
		err = s.Update(ctx, l.settle)
	}
	if err != nil {
		l.counted.Store(true)
	}
	return err
}

func (l *Log) settle(tx *store.Tx) (err error) {
	var keys [][]byte
	tallies(tx).Scan(nil, func(k, v []byte) bool {
		var t tally
		if err = json.Unmarshal(v, &t); err != nil {
			err = fmt.Errorf("read what was counted for the audit log: %w", err)
			return false
		}
		keys = append(keys, append([]byte(nil), k...))
		t.Row.Detail = fmt.Sprintf("%s to %s, too often for a row each. %s", t.Since.UTC().Format(time.RFC3339), t.Row.Time.UTC().Format(time.RFC3339), t.Row.Detail)
		t.Row.Time = l.clock()
		_, err = l.Append(tx, t.Row)
		return err == nil
	})
	for _, k := range keys {
		tallies(tx).Delete(k)
	}
	return err
}
