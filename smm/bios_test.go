package smm_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"biosv/generated"
	"biosv/internal/testbios"
	"biosv/internal/testca"
	"biosv/security/audit"
	"biosv/smm"
	"biosv/store"
)

// some is any operation that changes something.
var some = generated.OpResetSystem

func happened(message string) smm.Event {
	return smm.Event{Severity: generated.EventSeverityOk, MessageID: "Base.1.19.Success", Message: message}
}

// code is the code of a fault that bears one.
func code(err error) string {
	var conflict *generated.ConflictFault
	var unavailable *generated.UnavailableFault
	var notFound *generated.NotFoundFault
	switch {
	case errors.As(err, &conflict):
		return conflict.Code
	case errors.As(err, &unavailable):
		return unavailable.Code
	case errors.As(err, &notFound):
		return notFound.Code
	}
	return fmt.Sprint(err)
}

// since are the audit rows after so many, as operation and outcome.
func since(b *testbios.BIOS, n int) (list []string) {
	for _, r := range b.Rows()[n:] {
		list = append(list, r.Operation+" "+r.Outcome)
	}
	return list
}

func nothing(*smm.Tx) error { return nil }

func TestAChangeWritesStateEventVersionAndAuditRowTogether(t *testing.T) {
	t.Parallel()
	b := testbios.New(t, testbios.Options{})
	alice := testca.Principal(t, "spiffe://biosv.test/person/alice")
	call, before, n := b.Call(alice, "demo"), b.Version("demo"), len(b.Rows())
	if err := b.Change(t.Context(), call, some, func(tx *smm.Tx) error {
		if tx.Domain.Name != "demo" || tx.Call != call || !tx.Now.Equal(b.Clock()) {
			t.Errorf("it works on %+v for %+v at %s", tx.Domain, tx.Call, tx.Now)
		}
		tx.State("test").Put([]byte("k"), []byte("v"))
		tx.Event(happened("one"))
		tx.Event(happened("two"))
		if got := tx.Version(); got != before+1 {
			t.Errorf("with events the version is %d; before it was %d", got, before)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if got := b.Version("demo"); got != before+1 {
		t.Errorf("the version is %d; before it was %d", got, before)
	}
	events := b.Events("demo")
	if len(events) != 2 || events[1].Message != "two" || events[1].Actor != alice.String() || events[1].Door != "soap" {
		t.Errorf("the events are %+v", events)
	}
	rows := b.Rows()[n:]
	if len(rows) != 1 {
		t.Fatalf("%d audit rows", len(rows))
	}
	want := audit.Row{
		Seq: uint64(n + 1), Time: b.Clock(), ID: call.ID, Principal: alice.String(), Door: "soap", Peer: call.Channel.Peer,
		Domain: "demo", Operation: some.Name, Outcome: "Done", Count: 1, Hash: rows[0].Hash,
	}
	if rows[0] != want {
		t.Errorf("the audit row is %+v; want %+v", rows[0], want)
	}
	if err := b.View(t.Context(), call, func(tx *smm.Tx) error {
		if v := tx.State("test").Get([]byte("k")); string(v) != "v" {
			t.Errorf("the state is %q", v)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func TestAChangeThatFailsWritesNothing(t *testing.T) {
	t.Parallel()
	b := testbios.New(t, testbios.Options{})
	before, n, failed := b.Version("demo"), len(b.Rows()), errors.New("failed")
	if err := b.Change(t.Context(), b.LocalCall("demo"), some, func(tx *smm.Tx) error {
		tx.State("test").Put([]byte("k"), []byte("v"))
		tx.Event(happened("x"))
		return failed
	}); !errors.Is(err, failed) {
		t.Error(err)
	}
	if b.Version("demo") != before || len(b.Events("demo")) != 0 || len(b.Rows()) != n {
		t.Errorf("version %d, %d events, %v", b.Version("demo"), len(b.Events("demo")), since(b, n))
	}
	if err := b.View(t.Context(), b.LocalCall("demo"), func(tx *smm.Tx) error {
		if v := tx.State("test").Get([]byte("k")); v != nil {
			t.Errorf("the state is %q", v)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func TestRequireRefusesAStaleVersion(t *testing.T) {
	t.Parallel()
	b := testbios.New(t, testbios.Options{})
	for range 3 {
		if err := b.Change(t.Context(), b.LocalCall("demo"), some, func(tx *smm.Tx) error { tx.Event(happened("x")); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.View(t.Context(), b.LocalCall("demo"), func(tx *smm.Tx) error {
		for _, row := range []struct {
			version *generated.StateVersion
			want    string
		}{{nil, "<nil>"}, {new(generated.StateVersion(3)), "<nil>"}, {new(generated.StateVersion(2)), "StaleVersion"}, {new(generated.StateVersion(4)), "StaleVersion"}} {
			err := tx.Require(row.version)
			if code(err) != row.want {
				t.Errorf("%v: %v", row.version, err)
			}
			var f *generated.ConflictFault
			if errors.As(err, &f) && *f.CurrentVersion != 3 {
				t.Errorf("the fault says that the version is %d", *f.CurrentVersion)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func TestADomainThatIsNotThereIsNotFound(t *testing.T) {
	t.Parallel()
	b := testbios.New(t, testbios.Options{})
	call := b.LocalCall("nowhere")
	for name, err := range map[string]error{
		"View":   b.View(t.Context(), call, nothing),
		"Change": b.Change(t.Context(), call, some, nothing),
		"Act":    b.Act(t.Context(), call, some, smm.Action{Intend: nothing}),
	} {
		if code(err) != "UnknownDomain" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// acting holds a machine in an action of a domain until it is let go.
type acting struct {
	began, end chan struct{}
	done       chan error
}

func act(b *testbios.BIOS, ctx context.Context, call generated.Call, failure error, conclude func(*smm.Tx) error) *acting {
	a := &acting{make(chan struct{}), make(chan struct{}), make(chan error, 1)}
	go func() {
		a.done <- b.Act(ctx, call, some, smm.Action{
			Intend: nothing,
			Act: func(context.Context, smm.Machine) error {
				close(a.began)
				<-a.end
				return failure
			},
			Conclude: conclude,
		})
	}()
	<-a.began
	return a
}

func (a *acting) finish() error {
	close(a.end)
	return <-a.done
}

// While a machine acts, changes of its domain are refused at once and nothing else waits for it.
func TestWhileAMachineActs(t *testing.T) {
	t.Parallel()
	b := testbios.New(t, testbios.Options{})
	alice := testca.Principal(t, "spiffe://biosv.test/person/alice")
	call, n := b.Call(alice, "demo"), len(b.Rows())
	a := act(b, t.Context(), call, nil, func(tx *smm.Tx) error { tx.Event(happened("acted")); return nil })
	if got := since(b, n); fmt.Sprint(got) != "["+some.Name+" Intended]" {
		t.Errorf("the audit log tells %v", got)
	}
	err := b.Change(t.Context(), b.LocalCall("demo"), some, nothing)
	if code(err) != "OperationUnderWay" || !strings.Contains(err.Error(), some.Name) || !strings.Contains(err.Error(), alice.String()) {
		t.Errorf("a change: %v", err)
	}
	if err := b.Act(t.Context(), b.LocalCall("demo"), some, smm.Action{Intend: nothing, Act: func(context.Context, smm.Machine) error {
		t.Error("it acted")
		return nil
	}}); code(err) != "OperationUnderWay" {
		t.Errorf("another action: %v", err)
	}
	if err := b.Change(t.Context(), b.LocalCall(smm.PrivilegedDomain), some, func(tx *smm.Tx) error { return tx.RemoveDomain("demo") }); code(err) != "OperationUnderWay" {
		t.Errorf("removal of the domain: %v", err)
	}
	read := false
	if err := b.View(t.Context(), b.LocalCall("demo"), func(tx *smm.Tx) error { read = true; return nil }); err != nil || !read {
		t.Errorf("reading: %v", err)
	}
	if err := b.Change(t.Context(), b.LocalCall(smm.PrivilegedDomain), some, nothing); err != nil {
		t.Errorf("a change of another domain: %v", err)
	}
	if err := b.ChangeBeside(t.Context(), b.LocalCall("demo"), "Beside", func(tx *smm.Tx) error { tx.Event(happened("beside")); return nil }); err != nil {
		t.Errorf("a change that no machine is given: %v", err)
	}
	if _, err := b.Fake("demo").Supervisor.Starting(t.Context()); err != nil {
		t.Errorf("a start by itself: %v", err)
	}
	if got, err := b.OpenIntents(t.Context()); got != 1 || err != nil {
		t.Errorf("%d actions are under way, %v", got, err)
	}
	n = len(b.Rows())
	if err := a.finish(); err != nil {
		t.Fatal(err)
	}
	if got := since(b, n); fmt.Sprint(got) != "["+some.Name+" Done]" {
		t.Errorf("the audit log tells %v", got)
	}
	if events := b.Events("demo"); events[len(events)-1].Message != "acted" || events[len(events)-1].Actor != alice.String() {
		t.Errorf("the last event is %+v", events[len(events)-1])
	}
	if err := b.Change(t.Context(), b.LocalCall("demo"), some, nothing); err != nil {
		t.Errorf("a change afterwards: %v", err)
	}
	if got, err := b.OpenIntents(t.Context()); got != 0 || err != nil {
		t.Errorf("%d actions are under way afterwards, %v", got, err)
	}
}

func TestAnIntentThatMakesNoSenseActsNot(t *testing.T) {
	t.Parallel()
	b := testbios.New(t, testbios.Options{})
	n, refused := len(b.Rows()), errors.New("no")
	err := b.Act(t.Context(), b.LocalCall("demo"), some, smm.Action{
		Intend: func(tx *smm.Tx) error { tx.Event(happened("x")); return refused },
		Act:    func(context.Context, smm.Machine) error { t.Error("it acted"); return nil },
	})
	if !errors.Is(err, refused) || len(b.Rows()) != n || len(b.Events("demo")) != 0 {
		t.Errorf("%v, %v", err, since(b, n))
	}
	if err := b.Change(t.Context(), b.LocalCall("demo"), some, nothing); err != nil {
		t.Errorf("a change afterwards: %v", err)
	}
}

// What has begun is concluded, though nobody waits for it any more.
func TestACallerWhoGoesAwayDoesNotEndAnAction(t *testing.T) {
	t.Parallel()
	b := testbios.New(t, testbios.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	n := len(b.Rows())
	a := act(b, ctx, b.LocalCall("demo"), nil, nil)
	cancel()
	if err := a.finish(); err != nil {
		t.Error(err)
	}
	if got := since(b, n); fmt.Sprint(got) != fmt.Sprintf("[%s Intended %s Done]", some.Name, some.Name) {
		t.Errorf("the audit log tells %v", got)
	}
}

// However an action fails, its intent is closed, the event log and the audit log tell of it, once.
func TestAnActionThatFails(t *testing.T) {
	t.Parallel()
	failed := errors.New("the machine broke")
	for _, row := range []struct {
		name     string
		act      func(context.Context) error
		conclude func(*smm.Tx) error
		says     string
	}{
		{"the machine fails", func(context.Context) error { return failed }, nil, "the machine broke"},
		{"the machine panics", func(context.Context) error { panic("oh") }, nil, "panicked: oh"},
		{"the outcome is refused", func(context.Context) error { return nil }, func(tx *smm.Tx) error { tx.Event(happened("x")); return failed }, "its outcome could not be written: the machine broke"},
		{"the outcome panics", func(context.Context) error { return nil }, func(tx *smm.Tx) error { panic("oh") }, "its outcome could not be written"},
		{"the machine takes too long", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, nil, "deadline exceeded"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := testbios.New(t, testbios.Options{})
				n := len(b.Rows())
				gate := smm.NewGate(judge(pass), b.Ledger, answer(func(call generated.Call, _ generated.Request) (generated.Reply, error) {
					return nil, b.Act(t.Context(), call, some, smm.Action{
						Intend: nothing, Act: func(ctx context.Context, _ smm.Machine) error { return row.act(ctx) }, Conclude: row.conclude,
					})
				}), new(log).logger())
				if _, err := gate.Handle(t.Context(), b.LocalCall("demo"), &generated.ResetSystemRequest{}); err == nil {
					t.Error("it did not fail")
				}
				time.Sleep(3 * time.Second) // for what the ledger folds
				if got := since(b, n); fmt.Sprint(got) != fmt.Sprintf("[%s Intended %s Failed]", some.Name, some.Name) {
					t.Errorf("the audit log tells %v", got)
				}
				if rows := b.Rows(); !strings.Contains(rows[len(rows)-1].Detail, row.says) {
					t.Errorf("the audit log says %q; want %q", rows[len(rows)-1].Detail, row.says)
				}
				events := b.Events("demo")
				if len(events) != 1 || events[0].MessageId != "BiosV.1.0.OperationFailed" || *events[0].EventSeverity != generated.EventSeverityWarning {
					t.Errorf("the events are %+v", events)
				}
				if err := b.Change(t.Context(), b.LocalCall("demo"), some, nothing); err != nil {
					t.Errorf("a change afterwards: %v", err)
				}
			})
		})
	}
}

// fullDisk is a ledger that finds no room for outcomes while it is told so.
type fullDisk struct {
	smm.Ledger
	full *bool
}

func (f fullDisk) Record(tx *store.Tx, e smm.Entry) error {
	if *f.full && e.Outcome != smm.Intended {
		return fmt.Errorf("write: %w", store.ErrFull)
	}
	return f.Ledger.Record(tx, e)
}

// An outcome for which the disk has no room is owed: it is written, as what it was, when there is room.
func TestAnOutcomeIsOwedWhileTheDiskIsFull(t *testing.T) {
	t.Parallel()
	for _, failure := range []error{nil, errors.New("the machine broke")} {
		full := false
		b := testbios.New(t, testbios.Options{Ledger: func(l smm.Ledger) smm.Ledger { return fullDisk{l, &full} }})
		call, n := b.LocalCall("demo"), len(b.Rows())
		concluded := 0
		a := act(b, t.Context(), call, failure, func(tx *smm.Tx) error { concluded++; tx.Event(happened("acted")); return nil })
		full = true
		err := a.finish()
		if failure == nil && (code(err) != "StorageFull" || !strings.Contains(err.Error(), "was carried out")) || failure != nil && !errors.Is(err, failure) {
			t.Errorf("the caller is told %v", err)
		}
		for range 2 {
			if err := b.Change(t.Context(), b.LocalCall("demo"), some, nothing); !errors.Is(err, store.ErrFull) {
				t.Errorf("a change meanwhile: %v", err)
			}
			if err := b.Act(t.Context(), b.LocalCall("demo"), some, smm.Action{Intend: nothing}); !errors.Is(err, store.ErrFull) {
				t.Errorf("an action meanwhile: %v", err)
			}
		}
		if err := b.View(t.Context(), b.LocalCall("demo"), nothing); err != nil {
			t.Errorf("reading meanwhile: %v", err)
		}
		full = false
		if failure == nil {
			// A change of another domain pays it too.
			if err := b.Change(t.Context(), b.LocalCall(smm.PrivilegedDomain), some, nothing); err != nil {
				t.Error(err)
			}
		} else if err := b.View(t.Context(), b.LocalCall("demo"), nothing); err != nil { // and so does reading
			t.Error(err)
		}
		if open, err := b.OpenIntents(t.Context()); open != 0 || err != nil {
			t.Errorf("%d actions are under way, %v", open, err)
		}
		concluded = 0
		if err := b.Change(t.Context(), b.LocalCall("demo"), some, nothing); err != nil || concluded != 0 {
			t.Errorf("a change afterwards: %v; the outcome was written again: %v", err, concluded != 0)
		}
		rows := b.Rows()[n:]
		want := map[bool]string{true: "Done", false: "Failed"}[failure == nil]
		if rows[0].Outcome != "Intended" || rows[1].Outcome != want || rows[1].ID != call.ID {
			t.Errorf("the audit log tells %v", since(b, n))
		}
	}
}

// What was under way when biosv ended is reconciled when it starts again.
func TestAnActionThatACrashInterruptedIsReconciled(t *testing.T) {
	t.Parallel()
	b := testbios.New(t, testbios.Options{})
	alice := testca.Principal(t, "spiffe://biosv.test/person/alice")
	call := b.Call(alice, "demo")
	a := act(b, t.Context(), call, nil, nil)
	crashed := filepath.Join(t.TempDir(), "state.db") // as a crash leaves it
	f, err := os.Create(crashed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Store.Backup(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Close(), a.finish()); err != nil {
		t.Fatal(err)
	}
	n := len(b.Rows()) - 1
	b = testbios.New(t, testbios.Options{Path: crashed})
	events := b.Events("demo")
	if len(events) != 1 || events[0].MessageId != "BiosV.1.0.OperationInterrupted" || !strings.Contains(events[0].Message, alice.String()) || !strings.Contains(events[0].Message, some.Name) {
		t.Errorf("the events are %+v", events)
	}
	rows := b.Rows()[n:]
	if len(rows) != 1 || rows[0].Operation != some.Name || rows[0].Outcome != "Failed" || rows[0].ID != call.ID || rows[0].Principal != "biosv" {
		t.Errorf("the audit log tells %+v", rows)
	}
	if err := b.Change(t.Context(), b.LocalCall("demo"), some, nothing); err != nil {
		t.Errorf("a change afterwards: %v", err)
	}
	if err := b.Start(t.Context()); err != nil || len(b.Events("demo")) != 1 {
		t.Errorf("reconciled again: %v, %d events", err, len(b.Events("demo")))
	}
}

func TestAMachineThatCannotBeOpenedIsReportedAndTheOthersAreThere(t *testing.T) {
	t.Parallel()
	b := testbios.New(t, testbios.Options{Open: func(domain string) error {
		if domain == "demo" {
			return errors.New("no such machine today")
		}
		return nil
	}})
	if _, err := b.Machine("demo"); code(err) != "MachineUnavailable" {
		t.Errorf("the machine that cannot be opened: %v", err)
	}
	if _, err := b.Machine(smm.PrivilegedDomain); err != nil {
		t.Errorf("the other one: %v", err)
	}
	if _, err := b.Machine("nowhere"); code(err) != "UnknownDomain" {
		t.Errorf("one that is not there: %v", err)
	}
	if !strings.Contains(b.Text.String(), "no such machine today") || !strings.Contains(b.Text.String(), "domain=demo") {
		t.Errorf("the log says %s", b.Text)
	}
	if err := b.Act(t.Context(), b.LocalCall("demo"), some, smm.Action{Intend: nothing}); code(err) != "MachineUnavailable" {
		t.Errorf("an action: %v", err)
	}
	if err := b.Change(t.Context(), b.LocalCall("demo"), some, nothing); err != nil {
		t.Errorf("a change of its state: %v", err)
	}
}

func TestAMachineIsOpenedWithTheSettingsInForce(t *testing.T) {
	t.Parallel()
	b := testbios.New(t, testbios.Options{})
	b.Set(smm.Settings{"AssetTag": {"rack-7"}})
	old := b.Fake("demo")
	if err := errors.Join(b.Close(), b.Start(t.Context())); err != nil {
		t.Fatal(err)
	}
	m := b.Fake("demo")
	if !old.Closed() || old.Destroyed() || m == old || m.Closed() || fmt.Sprint(m.Opened) != "map[AssetTag:[rack-7]]" {
		t.Errorf("the machine was opened with %v", m.Opened)
	}
	settings, err := m.Supervisor.Starting(t.Context())
	if err != nil || fmt.Sprint(settings) != "map[AssetTag:[rack-7]]" {
		t.Errorf("a start uses %v, %v", settings, err)
	}
	if err := m.Supervisor.Report(t.Context(), happened("by itself")); err != nil {
		t.Fatal(err)
	}
	events := b.Events("demo")
	if len(events) != 2 || events[0].Message != "settings applied" || events[1].Message != "by itself" || events[1].Actor != "biosv" || events[1].Door != "local" {
		t.Errorf("the events are %+v", events)
	}
	phase := func() (p generated.GuestPhase) {
		if err := b.View(t.Context(), b.LocalCall("demo"), func(tx *smm.Tx) error { p = tx.Phase(); return nil }); err != nil {
			t.Fatal(err)
		}
		return p
	}
	if p := phase(); p != generated.GuestPhaseBootServices {
		t.Errorf("a start begins with the phase %q", p)
	}
	for range 2 { // what is kept is not written again
		if err := m.Supervisor.Enter(t.Context(), generated.GuestPhaseOperatingSystem, happened("the operating system runs")); err != nil {
			t.Fatal(err)
		}
	}
	if p, events := phase(), b.Events("demo"); p != generated.GuestPhaseOperatingSystem || len(events) != 3 || events[2].Message != "the operating system runs" {
		t.Errorf("the phase is %q, and the events are %+v", p, events)
	}
	if err := b.CloseMachine("demo"); err != nil || !m.Closed() {
		t.Errorf("it is not closed: %v", err)
	}
	if err := b.CloseMachine("demo"); err != nil {
		t.Errorf("closed again: %v", err)
	}
}

func TestDomainsAreListedThePrivilegedOneFirst(t *testing.T) {
	t.Parallel()
	b := testbios.New(t, testbios.Options{})
	add := func(name string) error {
		return b.Change(t.Context(), b.LocalCall(smm.PrivilegedDomain), some, func(tx *smm.Tx) error {
			return tx.AddDomain(smm.Domain{Name: name, Kind: generated.DomainKindSimulated})
		})
	}
	if err := errors.Join(add("zeta"), add("alpha")); err != nil {
		t.Fatal(err)
	}
	if err := add("alpha"); code(err) != "AlreadyExists" {
		t.Errorf("a second one of a name: %v", err)
	}
	if err := b.EnsurePrivileged(t.Context(), "another uuid"); err != nil {
		t.Fatal(err)
	}
	domains, err := b.Domains(t.Context())
	var names []string
	for _, d := range domains {
		names = append(names, d.Name)
	}
	if err != nil || fmt.Sprint(names) != "[dom0 alpha demo zeta]" || domains[0].UUID == "another uuid" {
		t.Errorf("the domains are %v, %v", names, err)
	}
	if err := b.Change(t.Context(), b.LocalCall(smm.PrivilegedDomain), some, func(tx *smm.Tx) error { return tx.RemoveDomain("alpha") }); err != nil {
		t.Fatal(err)
	}
	if err := b.View(t.Context(), b.LocalCall("alpha"), nothing); code(err) != "UnknownDomain" {
		t.Errorf("one that was removed: %v", err)
	}
	if err := b.Change(t.Context(), b.LocalCall(smm.PrivilegedDomain), some, func(tx *smm.Tx) error { return tx.RemoveDomain("alpha") }); code(err) != "UnknownDomain" {
		t.Errorf("removed again: %v", err)
	}
}
