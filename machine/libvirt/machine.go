package libvirt

import (
	"context"
	"log/slog"
	"slices"
	"sync"

	rpc "github.com/digitalocean/go-libvirt"

	"biosv/fault"
	"biosv/generated"
	"biosv/machine"
	"biosv/machine/firmware"
	"biosv/smm"
)

// Machine is a machine of libvirt that is attached.
type Machine struct {
	host       *Host
	domain     smm.Domain
	uuid       rpc.UUID
	original   *definition // before it was attached
	parts      *parts
	supervisor smm.Supervisor
	registry   generated.GetAttributeRegistryReply
	log        *slog.Logger

	life context.Context // ends with Close
	end  context.CancelFunc
	work sync.WaitGroup
	news chan lifecycle

	acts  sync.Mutex // held by who changes the power or the definition, which is not held by who prepares a start
	turns sync.Mutex // held by who begins or concludes a boot
	looks sync.Mutex // held by who keeps whether it has diverged

	mu      sync.Mutex // guards what follows, and is not held for long
	boot    *boot      // nil: none that was prepared here
	again   bool       // it is to start again when it has ended
	ordered bool       // the end was asked for here
	between bool       // it has ended, and starts again
	fresh   bool       // it is about to be attached, so it need not be what it is here yet
	leaves  bool       // it is being detached, so it may not start
}

var (
	_ smm.Firmware = (*Machine)(nil)
	_ smm.Resumer  = (*Machine)(nil)
	_ smm.Attached = (*Machine)(nil)
)

// Registry gives the attributes.
func (m *Machine) Registry() generated.GetAttributeRegistryReply { return m.registry }

// VariableStorage is how many bytes of variables the flash takes.
func (m *Machine) VariableStorage() uint64 { return firmware.VariableStorage }

// named is the machine as libvirt is asked for it: by its UUID.
func (m *Machine) named() rpc.Domain {
	name, _ := parseAddress(m.domain.Attachment.Address) // it was parsed when it was attached
	return rpc.Domain{Name: name, UUID: m.uuid}
}

func (m *Machine) gone(err error) error {
	if rpc.IsNotFound(err) {
		return fault.Unavailable(fault.MachineUnavailable, 0, "libvirt has no such machine any more: define it again there, or detach the domain %s.", m.domain.Name)
	}
	return err
}

// Power asks libvirt.
func (m *Machine) Power(ctx context.Context) (generated.PowerState, error) {
	s, err := m.host.state(ctx, m.named())
	if rpc.IsNotFound(err) {
		return generated.PowerStateOff, nil // it is nowhere, so it does not run
	}
	if err != nil {
		return "", err
	}
	if s == generated.PowerStateOff && m.comes() {
		return generated.PowerStatePoweringOn, nil
	}
	return s, nil
}

// comes says whether a machine that is off is about to start again.
func (m *Machine) comes() bool {
	m.mu.Lock()
	ended, again, between := m.boot != nil, m.again, m.between
	m.mu.Unlock()
	if between || !ended {
		return between
	}
	how, err := firmware.LastEnd(m.parts.at(fileEvents)) // its end was not heard of yet
	return again || err == nil && m.startsAgain(how, false)
}

// Resets are all that there are.
func (m *Machine) Resets() []generated.ResetType { return machine.AllResets() }

// Reset has libvirt change the power. A restart is an end, after which the machine is started again.
func (m *Machine) Reset(ctx context.Context, how generated.ResetType) error {
	m.acts.Lock()
	defer m.acts.Unlock()
	state, err := m.Power(ctx)
	if err != nil {
		return err
	}
	if state == generated.PowerStateOff {
		if how != generated.ResetTypeOn && how != generated.ResetTypePushPowerButton {
			return fault.Conflict(fault.WrongPowerState, "The power is Off: %s cannot be done now.", how)
		}
		return m.start(ctx)
	}
	if how == generated.ResetTypeForceOff {
		m.mu.Lock()
		was := m.between
		m.between = false
		m.mu.Unlock()
		if was {
			return nil // it does not come back
		}
	}
	restart := slices.Contains([]generated.ResetType{generated.ResetTypeGracefulRestart, generated.ResetTypeForceRestart, generated.ResetTypePowerCycle}, how)
	ask := func(what string, ask func(*rpc.Libvirt) error) error {
		if how != generated.ResetTypeNmi {
			m.mu.Lock()
			m.again, m.ordered = restart, true
			m.mu.Unlock()
		}
		_, err := do(ctx, m.host, what, nothing(ask))
		return m.gone(err)
	}
	switch how {
	case generated.ResetTypeForceOff, generated.ResetTypeForceRestart, generated.ResetTypePowerCycle:
		return ask("turn it off", func(l *rpc.Libvirt) error { return l.DomainDestroyFlags(m.named(), rpc.DomainDestroyDefault) })
	case generated.ResetTypeGracefulShutdown, generated.ResetTypeGracefulRestart, generated.ResetTypePushPowerButton:
		return ask("push its button", func(l *rpc.Libvirt) error {
			return l.DomainShutdownFlags(m.named(), rpc.DomainShutdownAcpiPowerBtn)
		})
	case generated.ResetTypeNmi:
		return ask("give it an NMI", func(l *rpc.Libvirt) error { return l.DomainInjectNmi(m.named(), 0) })
	}
	return fault.Conflict(fault.WrongPowerState, "The machine runs: %s cannot be done now.", how)
}

// start has libvirt start the machine; its hook has the start prepared here meanwhile.
func (m *Machine) start(ctx context.Context) error {
	_, err := do(ctx, m.host, "start it", nothing(func(l *rpc.Libvirt) error { return l.DomainCreate(m.named()) }))
	return m.gone(err)
}

// Configure has nothing to do: no attribute can be changed.
func (m *Machine) Configure(context.Context, smm.Settings) error { return nil }

// Thermal has no sensors to read.
func (m *Machine) Thermal(context.Context) (*generated.ThermalReading, error) {
	return nil, fault.Unavailable(fault.NotByThisMachine, 0, "A machine of libvirt has no sensors that are read here.")
}

// Close lets go of the machine, which goes on.
func (m *Machine) Close() error {
	m.host.mu.Lock()
	if m.host.machines[m.uuid] == m {
		delete(m.host.machines, m.uuid)
	}
	m.host.mu.Unlock()
	m.end()
	m.work.Wait()
	m.turns.Lock()
	defer m.turns.Unlock()
	if b := m.taken(); b != nil {
		b.close()
	}
	return nil
}

// taken takes the boot away from the machine, and gives it; nil where there is none.
func (m *Machine) taken() *boot {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.boot
	m.boot = nil
	return b
}
