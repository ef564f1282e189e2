package eventlog_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"testing"

	"biosv/generated"
	"biosv/internal/testbios"
	"biosv/internal/testca"
	"biosv/smm"
	"biosv/smm/eventlog"
	"biosv/store"
)

type bench struct {
	*testing.T
	*testbios.BIOS
	*eventlog.Function
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := testbios.New(t, testbios.Options{})
	return &bench{t, b, eventlog.New(b.BIOS, b.Audit)}
}

func (b *bench) tell(n int) {
	b.Helper()
	for ; n > 0; n -= 50 {
		if err := b.Change(b.Context(), b.LocalCall("demo"), generated.OpSetAttributes, func(tx *smm.Tx) error {
			for range min(n, 50) {
				tx.Event(smm.Event{Severity: generated.EventSeverityOk, MessageID: "BiosV.1.0.PowerChanged", Message: "told"})
			}
			return nil
		}); err != nil {
			b.Fatal(err)
		}
	}
}

func (b *bench) read(after *generated.LogPosition, most *generated.RecordLimit) (positions []generated.LogPosition, last generated.LogPosition) {
	b.Helper()
	reply, err := b.GetEventLog(b.Context(), b.LocalCall("demo"), &generated.GetEventLogRequest{After: after, MostRecords: most})
	if err != nil {
		b.Fatal(err)
	}
	for _, r := range reply.Record {
		positions = append(positions, *r.Position)
	}
	return positions, *reply.LastPosition
}

func span(list []generated.LogPosition) string {
	if len(list) == 0 {
		return "none"
	}
	return fmt.Sprintf("%d records, %d to %d", len(list), list[0], list[len(list)-1])
}

func TestTheEventLogIsARingOfTheNewestRecords(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	most := new(generated.RecordLimit(5000))
	if list, last := b.read(nil, most); len(list) != 0 || last != 0 {
		t.Errorf("an empty log has %s, and its newest is %d", span(list), last)
	}
	for _, row := range []struct {
		more int
		want string
	}{
		{1, "1 records, 1 to 1"}, {eventlog.Capacity - 1, "1000 records, 1 to 1000"}, {1, "1000 records, 2 to 1001"}, {1500, "1000 records, 1502 to 2501"},
	} {
		b.tell(row.more)
		if list, last := b.read(nil, most); span(list) != row.want || last != list[len(list)-1] {
			t.Errorf("%d more make %s; want %s", row.more, span(list), row.want)
		}
	}
	if err := b.Store.View(t.Context(), func(tx *store.Tx) error {
		if n := tx.Bucket("domain", "demo", "eventlog").Len(); n != eventlog.Capacity {
			t.Errorf("%d records are kept", n)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		after *generated.LogPosition
		most  *generated.RecordLimit
		want  string
	}{
		{nil, nil, "100 records, 1502 to 1601"},
		{new(generated.LogPosition(0)), new(generated.RecordLimit(1)), "1 records, 1502 to 1502"},
		{new(generated.LogPosition(1601)), nil, "100 records, 1602 to 1701"},
		{new(generated.LogPosition(2499)), nil, "2 records, 2500 to 2501"},
		{new(generated.LogPosition(2501)), nil, "none"},
		{new(generated.LogPosition(math.MaxUint64)), nil, "none"},
	} {
		if list, last := b.read(row.after, row.most); span(list) != row.want || last != 2501 {
			t.Errorf("after %v at most %v: %s, newest %d; want %s", row.after, row.most, span(list), last, row.want)
		}
	}
}

func TestARecordTellsWhoDidWhat(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	alice := testca.Principal(t, "spiffe://biosv.test/person/alice")
	if err := b.Change(t.Context(), b.Call(alice, "demo"), generated.OpSetAttributes, func(tx *smm.Tx) error {
		tx.Event(smm.Event{
			Severity: generated.EventSeverityWarning, MessageID: "BiosV.1.0.PowerChanged", Message: "m",
			Changes: []smm.Change{{Name: "a", Old: new("1"), New: new("2")}, {Name: "b", New: new("")}, {Name: "secret"}},
		})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	r := b.Events("demo")[0]
	if *r.Position != 1 || !r.RecordedAt.ToGoTime().Equal(b.Clock()) || *r.EventSeverity != generated.EventSeverityWarning || r.MessageId != "BiosV.1.0.PowerChanged" || r.Message != "m" ||
		r.Actor != alice.String() || r.Door != "soap" || len(r.Change) != 3 {
		t.Errorf("%+v", r)
	}
	if c := *r.Change[0]; c.Name != "a" || c.OldValue != "1" || c.NewValue != "2" {
		t.Errorf("%+v", c)
	}
	if c := *r.Change[2]; c.Name != "secret" || c.OldValue != "" || c.NewValue != "" {
		t.Errorf("%+v", c)
	}
}

func TestLogsOfDomainsAreApart(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.tell(3)
	if n := len(b.Events(smm.PrivilegedDomain)); n != 0 {
		t.Errorf("the other domain's log has %d records", n)
	}
	_, err := b.GetEventLog(t.Context(), b.LocalCall("nowhere"), &generated.GetEventLogRequest{})
	var f *generated.NotFoundFault
	if !errors.As(err, &f) {
		t.Errorf("a domain that is not there: %v", err)
	}
}

func TestTheAuditLogIsReadInPartsAndSaysWhetherItIsWhole(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for range 5 {
		b.tell(1)
	}
	call := b.LocalCall(smm.PrivilegedDomain)
	read := func(after *generated.LogPosition, most *generated.RecordLimit) *generated.GetAuditLogReply {
		t.Helper()
		reply, err := b.GetAuditLog(t.Context(), call, &generated.GetAuditLogRequest{After: after, MostRecords: most})
		if err != nil {
			t.Fatal(err)
		}
		return reply
	}
	all := read(nil, nil)
	n := len(all.Record)
	if n < 6 || *all.LastPosition != generated.LogPosition(n) || !all.ChainIntact {
		t.Fatalf("%d rows, newest %d, intact %v", n, *all.LastPosition, all.ChainIntact)
	}
	if r := all.Record[n-1]; r.Operation != "SetAttributes" || *r.AuditOutcome != generated.AuditOutcomeDone || r.Actor != "biosv" || r.Domain != "demo" || r.RepeatCount != 1 || len(r.Digest) != 64 || r.RequestId == "" {
		t.Errorf("%+v", r)
	}
	if part := read(new(generated.LogPosition(2)), new(generated.RecordLimit(2))); len(part.Record) != 2 || *part.Record[0].Position != 3 || *part.LastPosition != generated.LogPosition(n) {
		t.Errorf("after 2, at most 2: %+v", part.Record)
	}
	for _, after := range []generated.LogPosition{generated.LogPosition(n), math.MaxUint64} {
		if part := read(&after, nil); len(part.Record) != 0 {
			t.Errorf("after %d there are %d rows", after, len(part.Record))
		}
	}
	if err := b.Store.Update(t.Context(), func(tx *store.Tx) error {
		tx.Bucket("audit", "rows").Delete(binary.BigEndian.AppendUint64(nil, 2))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if read(nil, nil).ChainIntact {
		t.Error("a log without its second row is said to be whole")
	}
}

func TestADamagedRecordIsAnError(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.tell(1)
	if err := b.Store.Update(t.Context(), func(tx *store.Tx) error {
		tx.Bucket("domain", "demo", "eventlog").Put(binary.BigEndian.AppendUint64(nil, 1), []byte("{"))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if reply, err := b.GetEventLog(t.Context(), b.LocalCall("demo"), &generated.GetEventLogRequest{}); err == nil {
		t.Errorf("it is read as %+v", reply.Record)
	}
}
