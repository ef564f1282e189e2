package testbios

import (
	"context"
	"sync"

	"biosv/generated"
	"biosv/machine"
	"biosv/machine/firmware"
	"biosv/smm"
)

// AllResets are all resets of the contract.
var AllResets = machine.AllResets()

// Machine does what a test tells it. A reset that leads to another state of power leads there at once.
type Machine struct {
	Supervisor smm.Supervisor
	Opened     smm.Settings // with which it was opened

	mu       sync.Mutex
	state    generated.PowerState
	can      []generated.ResetType
	registry generated.GetAttributeRegistryReply
	broken   error
	onReset  func(context.Context, generated.ResetType) error
	resets   []generated.ResetType
	closed   bool
	targets  []generated.BootTarget
	gone     bool
}

// Be sets the state of its power, and the resets that it can do.
func (m *Machine) Be(state generated.PowerState, can ...generated.ResetType) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state = state
	if len(can) > 0 {
		m.can = can
	}
}

// Define sets its registry.
func (m *Machine) Define(r generated.GetAttributeRegistryReply) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.registry = r
}

// BootsFrom sets what it can be started from.
func (m *Machine) BootsFrom(targets ...generated.BootTarget) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.targets = targets
}

// Break makes every observation fail; nil repairs it.
func (m *Machine) Break(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.broken = err
}

// OnReset is run by [Machine.Reset] in place of what it does.
func (m *Machine) OnReset(fn func(context.Context, generated.ResetType) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.onReset = fn
}

// WasReset gives the resets that were asked for.
func (m *Machine) WasReset() []generated.ResetType {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.resets
}

// Closed says whether it was closed.
func (m *Machine) Closed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.closed
}

// Destroyed says whether what it kept was taken away, after it was closed.
func (m *Machine) Destroyed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.gone
}

// What follows makes it an [smm.Machine].

func (m *Machine) Registry() generated.GetAttributeRegistryReply {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.registry
}

func (m *Machine) Power(context.Context) (generated.PowerState, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state, m.broken
}

func (m *Machine) Resets() []generated.ResetType {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.can
}

func (m *Machine) Reset(ctx context.Context, how generated.ResetType) error {
	m.mu.Lock()
	m.resets = append(m.resets, how)
	fn := m.onReset
	m.mu.Unlock()
	if fn != nil {
		return fn(ctx, how)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch how {
	case generated.ResetTypeOn:
		m.state = generated.PowerStateOn
	case generated.ResetTypeForceOff, generated.ResetTypeGracefulShutdown:
		m.state = generated.PowerStateOff
	case generated.ResetTypePushPowerButton:
		m.state = map[bool]generated.PowerState{true: generated.PowerStateOn, false: generated.PowerStateOff}[m.state == generated.PowerStateOff]
	}
	return nil
}

func (m *Machine) Configure(context.Context, smm.Settings) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.broken
}

func (m *Machine) Inventory(context.Context) (*generated.SystemInventory, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &generated.SystemInventory{SerialNumber: "of a test", AssetTag: "tag of a test"}, m.broken
}

func (m *Machine) Thermal(context.Context) (*generated.ThermalReading, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &generated.ThermalReading{}, m.broken
}

// VariableStorage makes it an [smm.Firmware]: that of the flash of QEMU's machines.
func (m *Machine) VariableStorage() uint64 { return firmware.VariableStorage }

// BootTargets are a disk, the firmware's shell and its setup, until [Machine.BootsFrom] is told otherwise.
func (m *Machine) BootTargets() []generated.BootTarget {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.targets
}

func (m *Machine) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	return nil
}

func (m *Machine) Destroy() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gone = m.closed
	return nil
}
