package smm

import (
	"context"
	"fmt"

	"biosv/fault"
	"biosv/generated"
)

// Settings are attribute values by name: one value, or for an ordered list the list. An attribute that is not
// there has its default.
type Settings map[string][]string

// Machine is what a BIOS is the BIOS of. Its methods are safe for concurrent use, observe and never assume, and
// answer with the contract's faults: UnavailableFault for what it does not have.
type Machine interface {
	// Registry gives the attributes that the machine takes; it stays the same while the machine is open.
	Registry() generated.GetAttributeRegistryReply
	// Power observes the state of its power.
	Power(ctx context.Context) (generated.PowerState, error)
	// Resets are the ways of [Machine.Reset] that it can do at all, whatever its state.
	Resets() []generated.ResetType
	// Reset begins a change of its power and returns when it is under way.
	Reset(ctx context.Context, how generated.ResetType) error
	// Configure puts settings into force that need no reset. It gets all settings, not the changed ones only.
	Configure(ctx context.Context, settings Settings) error
	Inventory(ctx context.Context) (*generated.SystemInventory, error)
	Thermal(ctx context.Context) (*generated.ThermalReading, error)
	// Close lets go of the machine. A machine that lives outside of biosv goes on.
	Close() error
}

// Firmware is a [Machine] with UEFI firmware, whose variables BIOS.v keeps; other machines have none.
type Firmware interface {
	Machine
	// VariableStorage is how many bytes of nonvolatile variables the flash takes that each start is given.
	VariableStorage() uint64
}

// Resumer is a [Machine] that lives outside of biosv.
type Resumer interface {
	Machine
	// Resume is called once, when the machine can be asked for: it takes up what went on while biosv was away.
	Resume(ctx context.Context)
}

// Keeper is a [Machine] that keeps something outside of the store, which is to go with its domain.
type Keeper interface {
	Machine
	// Destroy takes that away. It is called once, when the machine is off and closed.
	Destroy() error
}

// Supervisor is what a machine is given to tell BIOS.v what happens to it.
type Supervisor interface {
	// Starting is called before each start, whoever caused it. It makes pending values current, durably, and
	// gives the settings that the start is to use.
	Starting(ctx context.Context) (Settings, error)
	// Enter keeps the phase that the machine's guest has come to, with the event that tells of it, unless it is kept
	// already. A start begins with that of boot services.
	Enter(ctx context.Context, phase generated.GuestPhase, e Event) error
	// Report writes what the machine did by itself to the domain's event log.
	Report(ctx context.Context, e Event) error
	// Diverge keeps why the machine is not what it is here, and writes that to the event log where it is new; empty means
	// that it is again.
	Diverge(ctx context.Context, why string) error
}

// Opener opens the machine of a domain, with the settings in force.
type Opener func(ctx context.Context, d Domain, settings Settings, s Supervisor) (Machine, error)

// Definer refuses a definition of a machine that cannot be made, and fills in what it leaves open.
type Definer func(*generated.VirtualMachine) error

// Define is the [Definer] of a kind; it refuses any definition of a machine that is not defined by who creates it.
func (b *BIOS) Define(d *Domain, given bool) error {
	define, ok := b.definers[d.Kind]
	switch {
	case ok:
		return define(d.VirtualMachine)
	case given:
		return fault.InvalidRequest(fault.InvalidValue, "/CreateDomain/DomainKind", string(d.Kind), "A machine of kind %s is what it is: memory, processors, images, network, firmware and TPM are said of one of kind Qemu only.", d.Kind)
	}
	d.VirtualMachine = nil
	return nil
}

// Configurer is the function that keeps settings. There is one.
type Configurer interface {
	// Settings gives the values in force.
	Settings(tx *Tx) (Settings, error)
	// Apply makes the values current that wait for a start, and gives those then in force.
	Apply(tx *Tx) (Settings, error)
}

// Machine gives the open machine of a domain; UnavailableFault where there is one that is not open.
func (b *BIOS) Machine(domain string) (Machine, error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if m, ok := b.machines[domain]; ok {
		return m, nil
	}
	if b.closed[domain] {
		return nil, fault.Unavailable(fault.MachineUnavailable, 0, "The machine of %s is not open; the service's log tells why.", domain)
	}
	return nil, fault.NotFound(fault.UnknownDomain, "", domain, "There is no domain %q; ListDomains names those that are.", domain)
}

// OpenMachine opens the machine of a domain whose record is in the store.
func (b *BIOS) OpenMachine(ctx context.Context, d Domain) error {
	m, err := b.open(ctx, d)
	b.mu.Lock()
	if err != nil {
		b.closed[d.Name] = true
		b.mu.Unlock()
		return fmt.Errorf("open the machine of %s: %w", d.Name, err)
	}
	b.machines[d.Name] = m
	delete(b.closed, d.Name)
	b.mu.Unlock()
	if r, ok := m.(Resumer); ok {
		r.Resume(ctx)
	}
	return nil
}

func (b *BIOS) open(ctx context.Context, d Domain) (Machine, error) {
	open, ok := b.openers[d.Kind]
	if !ok {
		return nil, fmt.Errorf("this biosv has no machines of kind %s", d.Kind)
	}
	var settings Settings
	if err := b.View(ctx, b.localCall(d.Name), func(tx *Tx) (err error) {
		settings, err = b.configurer.Settings(tx)
		return err
	}); err != nil {
		return nil, err
	}
	return open(ctx, d, settings, &supervisor{b, d.Name})
}

// CloseMachine lets go of the machine of a domain that is no more, with what it keeps.
func (b *BIOS) CloseMachine(domain string) error {
	b.mu.Lock()
	m, ok := b.machines[domain]
	delete(b.machines, domain)
	delete(b.closed, domain)
	b.mu.Unlock()
	if !ok {
		return nil
	}
	if err := m.Close(); err != nil {
		return err
	}
	if k, ok := m.(Keeper); ok {
		return k.Destroy()
	}
	return nil
}

type supervisor struct {
	bios   *BIOS
	domain string
}

func (s *supervisor) Starting(ctx context.Context) (settings Settings, err error) {
	call := s.bios.localCall(s.domain)
	return settings, s.bios.update(ctx, call, "Start", func(tx *Tx) error {
		tx.State("bios").Put(phaseKey, []byte(generated.GuestPhaseBootServices))
		settings, err = s.bios.configurer.Apply(tx)
		return err
	})
}

var phaseKey = []byte("phase")

// Phase is the one that the guest has come to in the last boot that there was.
func (tx *Tx) Phase() generated.GuestPhase {
	return generated.GuestPhase(tx.State("bios").Get(phaseKey))
}

func (s *supervisor) Enter(ctx context.Context, phase generated.GuestPhase, e Event) error {
	call := s.bios.localCall(s.domain)
	known := false
	if err := s.bios.View(ctx, call, func(tx *Tx) error {
		known = tx.Phase() == phase
		return nil
	}); err != nil || known {
		return err
	}
	return s.bios.update(ctx, call, "Enter", func(tx *Tx) error {
		tx.State("bios").Put(phaseKey, []byte(phase))
		tx.Event(e)
		return nil
	})
}

func (s *supervisor) Report(ctx context.Context, e Event) error {
	return s.bios.update(ctx, s.bios.localCall(s.domain), "Report", func(tx *Tx) error {
		tx.Event(e)
		return nil
	})
}
