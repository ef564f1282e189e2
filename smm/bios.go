package smm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"biosv/fault"
	"biosv/generated"
	"biosv/security"
	"biosv/store"
)

// PrivilegedDomain is the name of the host itself (DESIGN: the privileged domain).
const PrivilegedDomain = "dom0"

// Config is what a [BIOS] is made of.
type Config struct {
	Store    *store.Store
	Ledger   Ledger
	Clock    func() time.Time // nil means time.Now
	Log      *slog.Logger
	Machines map[generated.DomainKind]Opener
	// Definers are of the kinds whose machines are defined by who creates them.
	Definers map[generated.DomainKind]Definer
	Examiner Examiner // nil where no machines are attached
}

// BIOS is what the functions work with: the state of the domains, and their machines. It is safe for
// concurrent use. Make one with [New], give it the [Configurer], then [BIOS.Start] it.
type BIOS struct {
	store      *store.Store
	ledger     Ledger
	clock      func() time.Time
	log        *slog.Logger
	openers    map[generated.DomainKind]Opener
	definers   map[generated.DomainKind]Definer
	examiner   Examiner
	configurer Configurer

	mu       sync.RWMutex
	machines map[string]Machine
	closed   map[string]bool                        // domains whose machines could not be opened, or were closed while they stay
	owed     map[string]func(context.Context) error // outcomes by domain, for which the disk had no room
}

// New makes a BIOS over a store.
func New(c Config) *BIOS {
	if c.Clock == nil {
		c.Clock = time.Now
	}
	return &BIOS{
		store: c.Store, ledger: c.Ledger, clock: c.Clock, log: c.Log, openers: c.Machines, definers: c.Definers, examiner: c.Examiner,
		machines: map[string]Machine{}, closed: map[string]bool{}, owed: map[string]func(context.Context) error{},
	}
}

// Configure names the function that keeps settings. It is called once, before [BIOS.Start].
func (b *BIOS) Configure(c Configurer) { b.configurer = c }

// Start opens the machine of every domain and reconciles what was under way when biosv ended. A machine that
// cannot be opened is reported to the log and to whoever asks for it; the others are there.
func (b *BIOS) Start(ctx context.Context) error {
	domains, err := b.Domains(ctx)
	if err != nil {
		return fmt.Errorf("start the domains: %w", err)
	}
	b.mu.Lock()
	b.closed, b.owed = map[string]bool{}, map[string]func(context.Context) error{} // those of a state that was replaced
	b.mu.Unlock()
	for _, d := range domains {
		if err := b.OpenMachine(ctx, d); err != nil {
			b.log.Error("a domain is not available", "domain", d.Name, "error", err)
		}
	}
	return b.reconcile(ctx, domains)
}

// Close lets go of every machine.
func (b *BIOS) Close() error {
	b.mu.Lock()
	machines := b.machines
	b.machines, b.closed = map[string]Machine{}, map[string]bool{}
	for name := range machines {
		b.closed[name] = true
	}
	b.mu.Unlock()
	var errs []error
	for name, m := range machines {
		if err := m.Close(); err != nil {
			errs = append(errs, fmt.Errorf("close the machine of %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// Now is the time by the one clock.
func (b *BIOS) Now() time.Time { return b.clock().UTC() }

// View reads the state of the domain that a call names. What is owed is written first, where there is room by now, so
// that a change is not decided by the state before it.
func (b *BIOS) View(ctx context.Context, call generated.Call, fn func(*Tx) error) error {
	_ = b.settle(ctx, call.Domain) // a disk that is full keeps nobody from reading
	return b.store.View(ctx, func(s *store.Tx) error {
		tx, err := b.begin(s, call)
		if err != nil {
			return err
		}
		return fn(tx)
	})
}

// Change changes the state of the domain that a call names: what fn does, the events it tells, the domain's
// version and the audit row are one transaction, on disk when Change returns without an error, and nowhere
// otherwise. It is refused with ConflictFault while a machine acts on the domain.
func (b *BIOS) Change(ctx context.Context, call generated.Call, op *generated.Operation, fn func(*Tx) error) error {
	if err := b.settle(ctx, call.Domain); err != nil {
		return err
	}
	return b.update(ctx, call, op.Name, func(tx *Tx) error {
		if err := tx.requireNoIntent(); err != nil {
			return err
		}
		return fn(tx)
	})
}

// ChangeBeside changes what no machine is given, such as a count of wrong passwords, also while a machine acts on
// the domain. The audit row bears the name of operation, which need not be one of the contract.
func (b *BIOS) ChangeBeside(ctx context.Context, call generated.Call, operation string, fn func(*Tx) error) error {
	return b.update(ctx, call, operation, fn)
}

func (b *BIOS) update(ctx context.Context, call generated.Call, operation string, fn func(*Tx) error) error {
	return b.store.Update(ctx, func(s *store.Tx) error {
		tx, err := b.begin(s, call)
		if err != nil {
			return err
		}
		if err := fn(tx); err != nil {
			return err
		}
		return tx.end(operation, Done, "")
	})
}

func (b *BIOS) begin(s *store.Tx, call generated.Call) (*Tx, error) {
	d, err := readDomain(s, call.Domain)
	if err != nil {
		return nil, err
	}
	return &Tx{Call: call, Domain: d, Now: b.Now(), bios: b, store: s}, nil
}

func (b *BIOS) localCall(domain string) generated.Call {
	return generated.Call{ID: uuid.NewString(), Principal: security.Local(), Door: security.DoorLocal, Domain: domain}
}

// LocalCall is a call that biosv makes itself, with its own identity.
func (b *BIOS) LocalCall(domain string) generated.Call { return b.localCall(domain) }

// Tx is the state of one domain in one transaction of the store.
type Tx struct {
	Call   generated.Call
	Domain Domain
	Now    time.Time

	bios   *BIOS
	store  *store.Tx
	events []Event
}

// State is what a function keeps of the domain.
func (tx *Tx) State(function string) *store.Bucket {
	return tx.store.Bucket("domain", tx.Domain.Name, function)
}

// Shared is what a function keeps of the service as a whole.
func (tx *Tx) Shared(function string) *store.Bucket { return tx.store.Bucket("shared", function) }

// Store is the transaction itself, for logs that span domains.
func (tx *Tx) Store() *store.Tx { return tx.store }

// Event tells what happened; it goes to the domain's event log with the transaction, and raises the domain's
// version.
func (tx *Tx) Event(e Event) { tx.events = append(tx.events, e) }

// Version is the version of the domain's state.
func (tx *Tx) Version() generated.StateVersion {
	v, _, _ := store.GetJSON[uint64](tx.State("bios"), "version")
	return generated.StateVersion(v + uint64(min(len(tx.events), 1)))
}

// Require refuses a stale version; nil asks for none.
func (tx *Tx) Require(v *generated.StateVersion) error {
	if now := tx.Version(); v != nil && *v != now {
		f := fault.Conflict(fault.StaleVersion, "The state is at version %d, and the request was made for version %d: read it again and decide anew.", now, *v)
		f.CurrentVersion = &now
		return f
	}
	return nil
}

// end writes version, events and audit row.
func (tx *Tx) end(operation string, outcome Outcome, reason string) error {
	if len(tx.events) > 0 {
		if err := store.PutJSON(tx.State("bios"), "version", uint64(tx.Version())); err != nil {
			return err
		}
	}
	return tx.bios.ledger.Record(tx.store, Entry{At: tx.Now, Call: tx.Call, Operation: operation, Outcome: outcome, Reason: reason, Events: tx.events})
}
