// Package testbios makes a BIOS for tests of the functions behind the gate: over a store and an audit log of its own,
// with machines that do what the test tells them. Begin with [New].
package testbios

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"biosv/generated"
	"biosv/security"
	"biosv/security/audit"
	"biosv/smm"
	"biosv/smm/eventlog"
	"biosv/store"
)

// BIOS is a BIOS with the privileged domain, whose machine is on and cannot be reset, and the domain demo, whose
// machine is off.
type BIOS struct {
	*smm.BIOS
	Store  *store.Store
	Audit  *audit.Log
	Ledger *eventlog.Ledger
	Text   *Text // what was logged

	t        testing.TB
	mu       sync.Mutex
	now      time.Time
	machines map[string]*Machine
	settings smm.Settings
}

// Options say what is unusual.
type Options struct {
	Path string // of a state that is there already; empty makes one
	// Ledger stands between the BIOS and its ledger; nil for nothing.
	Ledger func(smm.Ledger) smm.Ledger
	// Open is asked before a machine is opened; an error keeps it closed.
	Open func(domain string) error
	// Examiner finds machines that can be attached, and Attached makes them of those that all domains have; nil for none.
	Examiner smm.Examiner
	Attached func(*Machine) smm.Machine
}

// New makes a BIOS and starts it.
func New(t testing.TB, o Options) *BIOS {
	t.Helper()
	path := o.Path
	if path == "" {
		path = filepath.Join(t.TempDir(), "state.db")
	}
	s, err := store.Open(path, store.Options{NoSync: true}) // no test of these cuts the power
	if err != nil {
		t.Fatal(err)
	}
	b := &BIOS{Store: s, Text: new(Text), t: t, now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), machines: map[string]*Machine{}}
	log := slog.New(slog.NewTextHandler(b.Text, nil))
	b.Audit = audit.New(b.Clock)
	refusals := audit.NewRefusals(b.Audit, s, log)
	b.Ledger = eventlog.NewLedger(b.Audit, refusals)
	var ledger smm.Ledger = b.Ledger
	if o.Ledger != nil {
		ledger = o.Ledger(ledger)
	}
	open := func(_ context.Context, d smm.Domain, settings smm.Settings, supervisor smm.Supervisor) (smm.Machine, error) {
		if o.Open != nil {
			if err := o.Open(d.Name); err != nil {
				return nil, err
			}
		}
		return b.add(d, settings, supervisor), nil
	}
	attached := func(ctx context.Context, d smm.Domain, settings smm.Settings, supervisor smm.Supervisor) (smm.Machine, error) {
		return o.Attached(b.add(d, settings, supervisor)), nil
	}
	b.BIOS = smm.New(smm.Config{
		Store: s, Ledger: ledger, Clock: b.Clock, Log: log, Examiner: o.Examiner,
		Machines: map[generated.DomainKind]smm.Opener{generated.DomainKindPrivileged: open, generated.DomainKindSimulated: open, generated.DomainKindLibvirt: attached},
	})
	b.Configure(b)
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		refusals.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := b.EnsurePrivileged(t.Context(), uuid.NewString()); err != nil {
		t.Fatal(err)
	}
	if o.Path == "" {
		if err := b.Change(t.Context(), b.LocalCall(smm.PrivilegedDomain), generated.OpCreateDomain, func(tx *smm.Tx) error {
			return tx.AddDomain(smm.Domain{Name: "demo", Kind: generated.DomainKindSimulated, UUID: uuid.NewString(), CreatedAt: tx.Now})
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return b
}

// Clock is the time of the BIOS: it stands until it is set.
func (b *BIOS) Clock() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now
}

// Wait lets time go by.
func (b *BIOS) Wait(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = b.now.Add(d)
}

// Set is what [BIOS.Settings] gives from then on.
func (b *BIOS) Set(s smm.Settings) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.settings = s
}

// Settings and Apply make the BIOS its own [smm.Configurer].
func (b *BIOS) Settings(*smm.Tx) (smm.Settings, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.settings, nil
}

// Apply gives the settings, and tells of it in the event log.
func (b *BIOS) Apply(tx *smm.Tx) (smm.Settings, error) {
	tx.Event(smm.Event{Severity: generated.EventSeverityOk, MessageID: "Base.1.19.Success", Message: "settings applied"})
	return b.Settings(tx)
}

// Call is a call of somebody of a domain.
func (b *BIOS) Call(who security.Principal, domain string) generated.Call {
	return generated.Call{ID: uuid.NewString(), Principal: who, Door: security.DoorSOAP, Domain: domain, Channel: generated.Channel{Peer: "192.0.2.1:1000"}}
}

// Rows are the rows of the audit log, whose chain is whole.
func (b *BIOS) Rows() (rows []audit.Row) {
	b.t.Helper()
	if err := b.Store.View(b.t.Context(), func(tx *store.Tx) (err error) {
		if rows, err = b.Audit.List(tx, 1, 1<<20); err != nil {
			return err
		}
		return b.Audit.Verify(tx, 1, 1<<20)
	}); err != nil {
		b.t.Fatal(err)
	}
	return rows
}

// Events are the records of a domain's event log.
func (b *BIOS) Events(domain string) []*generated.EventRecord {
	b.t.Helper()
	reply, err := eventlog.New(b.BIOS, b.Audit).GetEventLog(b.t.Context(), b.LocalCall(domain), &generated.GetEventLogRequest{MostRecords: new(generated.RecordLimit(1000))})
	if err != nil {
		b.t.Fatal(err)
	}
	return reply.Record
}

// Version is the version of a domain's state.
func (b *BIOS) Version(domain string) (v generated.StateVersion) {
	b.t.Helper()
	if err := b.View(b.t.Context(), b.LocalCall(domain), func(tx *smm.Tx) error { v = tx.Version(); return nil }); err != nil {
		b.t.Fatal(err)
	}
	return v
}

// Fake is the machine of a domain that is open; nil where there is none.
func (b *BIOS) Fake(domain string) *Machine {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.machines[domain]
}

func (b *BIOS) add(d smm.Domain, settings smm.Settings, supervisor smm.Supervisor) *Machine {
	m := &Machine{Supervisor: supervisor, Opened: settings, state: generated.PowerStateOff, can: AllResets}
	m.BootsFrom(generated.BootTargetHdd, generated.BootTargetUefiShell, generated.BootTargetBiosSetup)
	if d.Kind == generated.DomainKindPrivileged {
		m.state, m.can = generated.PowerStateOn, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.machines[d.Name] = m
	return m
}

// Text is text that is written and read at once.
type Text struct {
	mu   sync.Mutex
	text []byte
}

// Write appends.
func (t *Text) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	return len(p), nil
}

// String is what was written.
func (t *Text) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}
