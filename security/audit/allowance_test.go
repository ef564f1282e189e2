package audit

import (
	"fmt"
	"testing"
	"time"
)

// Domains come and go; what each of their guests may still have is forgotten when it is what a new one has.
func TestTheAllowancesOfDomainsThatAreGoneAreForgotten(t *testing.T) {
	t.Parallel()
	now := time.Now()
	l := New(nil)
	for i := range 10_000 {
		now = now.Add(2 * rowEvery)
		if !l.affords(fmt.Sprint("domain ", i), now) {
			t.Fatal("it has no row")
		}
		for busy := true; busy; busy = l.affords("busy", now) {
		}
	}
	if n := len(l.allowances); n > 2 || l.allowances["busy"] == nil || l.affords("busy", now) {
		t.Errorf("%d allowances are kept, of which that of the busy guest is %+v", n, l.allowances["busy"])
	}
}
