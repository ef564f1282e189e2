package qemu

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"sync"
	"time"

	"biosv/fault"
	"biosv/generated"
	"biosv/machine"
	"biosv/machine/firmware"
	"biosv/smm"
)

// Machine is a virtual machine.
type Machine struct {
	host       *Host
	domain     smm.Domain
	supervisor smm.Supervisor
	registry   generated.GetAttributeRegistryReply
	folder     *folder
	log        *slog.Logger

	life context.Context // ends with Close
	end  context.CancelFunc
	work sync.WaitGroup // what watches over boots

	acts sync.Mutex // held by who starts or ends a boot

	mu       sync.Mutex // guards what follows, and is not held for long
	boot     *boot      // nil: off
	starting bool
	setup    setup // of the last start
}

// Power asks QEMU.
func (m *Machine) Power(ctx context.Context) (generated.PowerState, error) {
	m.mu.Lock()
	b, starting := m.boot, m.starting
	m.mu.Unlock()
	switch {
	case b != nil && !b.process.over():
		state, err := b.state(ctx)
		if err == nil {
			return state, nil
		}
		select { // it may just have ended
		case <-b.process.ended:
		case <-time.After(commandTime / 4):
			return "", fault.Unavailable(fault.MachineUnavailable, time.Second, "The machine runs and cannot be asked: %v.", err)
		}
		fallthrough
	case b != nil:
		if b.startsAgain(b.how()) {
			return generated.PowerStatePoweringOn, nil
		}
	case starting:
		return generated.PowerStatePoweringOn, nil
	}
	return generated.PowerStateOff, nil
}

// Resets are all that there are.
func (m *Machine) Resets() []generated.ResetType { return machine.AllResets() }

// Reset begins a change of the power. Which makes sense when is judged in smm/power; here is refused only what cannot
// be done at all.
func (m *Machine) Reset(ctx context.Context, how generated.ResetType) error {
	m.acts.Lock()
	defer m.acts.Unlock()
	b := m.running()
	if b == nil {
		if how != generated.ResetTypeOn && how != generated.ResetTypePushPowerButton {
			return fault.Conflict(fault.WrongPowerState, "The power is Off: %s cannot be done now.", how)
		}
		return m.start(ctx)
	}
	if how != generated.ResetTypeNmi {
		b.wantAgain(how == generated.ResetTypeGracefulRestart)
	}
	switch how {
	case generated.ResetTypeForceOff:
		return m.stop(ctx, b)
	case generated.ResetTypeGracefulShutdown, generated.ResetTypeGracefulRestart, generated.ResetTypePushPowerButton:
		return b.run(ctx, "system_powerdown")
	case generated.ResetTypeForceRestart, generated.ResetTypePowerCycle:
		if err := m.stop(ctx, b); err != nil {
			return err
		}
		return m.start(ctx)
	case generated.ResetTypeNmi:
		return b.run(ctx, "inject-nmi")
	}
	return fault.Conflict(fault.WrongPowerState, "The machine runs: %s cannot be done now.", how)
}

// running gives the boot that runs.
func (m *Machine) running() *boot {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.boot == nil || m.boot.process.over() {
		return nil
	}
	return m.boot
}

// quitTime is how long QEMU has to end in order.
const quitTime = 2 * time.Second

// stop ends a boot: QEMU writes what it has in hand, or is killed. The caller holds acts.
func (m *Machine) stop(ctx context.Context, b *boot) error {
	if err := b.run(ctx, "quit"); err == nil {
		select {
		case <-b.process.ended:
		case <-time.After(quitTime):
		}
	}
	b.process.kill()
	select {
	case <-b.process.ended:
	case <-ctx.Done():
		return fmt.Errorf("QEMU does not end: %w", ctx.Err())
	}
	m.conclude(b)
	return nil
}

// conclude lets go of a boot that has ended. The caller holds acts.
func (m *Machine) conclude(b *boot) {
	b.close()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.boot == b {
		m.boot = nil
	}
}

// start begins a boot. The caller holds acts.
func (m *Machine) start(ctx context.Context) (err error) {
	if m.life.Err() != nil {
		return fault.Unavailable(fault.MachineUnavailable, time.Second, "The machine was let go of.")
	}
	m.mu.Lock()
	old := m.boot // it has ended, and nobody concluded it yet
	m.starting = true
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		m.starting = false
		m.mu.Unlock()
	}()
	if old != nil {
		m.conclude(old)
	}
	settings, err := m.supervisor.Starting(ctx)
	if err != nil {
		return err
	}
	setup := m.everything(settings)
	b, err := m.begin(ctx, setup)
	if err != nil {
		return err
	}
	m.mu.Lock()
	m.boot, m.setup = b, setup
	m.mu.Unlock()
	m.watchOver(b)
	return nil
}

// watchOver waits for the end of a boot.
func (m *Machine) watchOver(b *boot) {
	m.work.Go(func() {
		select {
		case <-m.life.Done():
			return
		case <-b.process.ended:
		}
		m.acts.Lock()
		defer m.acts.Unlock()
		m.mu.Lock()
		current := m.boot == b
		m.mu.Unlock()
		if current && m.life.Err() == nil {
			m.ended(b)
		}
	})
}

// ended tells of a boot that ended by itself, and begins the next one after a reset. The caller holds acts.
func (m *Machine) ended(b *boot) {
	how := b.how()
	again := b.startsAgain(how)
	m.mu.Lock()
	m.starting = again
	m.mu.Unlock()
	m.conclude(b)
	m.tell(how, again)
}

// tell writes the end of a boot down, and begins the next one if there is to be one.
func (m *Machine) tell(how firmware.End, again bool) {
	ctx := m.life
	e := how.Event()
	if err := m.supervisor.Report(ctx, e); err != nil {
		m.log.Error("an event of a machine could not be written", "event", e.Message, "error", err)
	}
	if !again {
		return
	}
	if err := m.start(ctx); err != nil {
		m.mu.Lock()
		m.starting = false
		m.mu.Unlock()
		m.log.Error("a machine that was reset could not be started again", "error", err)
		// What kept the start from being written may keep this from it too.
		_ = m.supervisor.Report(ctx, firmware.StartFailed(err, m.domain.Name))
	}
}

// value is that of an attribute in force.
func (m *Machine) value(attribute string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.setup[attribute]
}

// startsAgain says whether the machine starts again after such an end; restart says that a restart was asked for.
func (m *Machine) startsAgain(how firmware.End, restart bool) bool {
	switch {
	case how == firmware.GuestPanic:
		return m.value("PanicAction") == "Restart"
	case how == firmware.GuestShutdown:
		return restart
	}
	return how.Reset()
}

// Resume finds the process of the machine, if it runs, and tells what became of it if it does not run any more.
func (m *Machine) Resume(ctx context.Context) {
	m.acts.Lock()
	defer m.acts.Unlock()
	b, err := m.find(ctx)
	switch {
	case err != nil:
		m.log.Error("a machine that runs cannot be found again", "error", err)
	case b != nil:
		m.mu.Lock()
		m.boot = b
		m.mu.Unlock()
		m.watchOver(b)
	default:
		how, err := firmware.LastEnd(m.folder.at(fileEvents))
		if errors.Is(err, fs.ErrNotExist) {
			return // it was off
		} else if err != nil {
			m.log.Error("how a machine ended cannot be read", "error", err)
		}
		if err := m.clean(); err != nil {
			m.log.Error("a run folder cannot be cleaned", "error", err)
		}
		again := m.startsAgain(how, false) || how == firmware.Killed && m.value("PowerRestorePolicy") == lastState
		m.mu.Lock()
		m.starting = again
		m.mu.Unlock()
		m.work.Go(func() { // other machines need not wait for this one
			m.acts.Lock()
			defer m.acts.Unlock()
			if m.running() == nil && m.life.Err() == nil {
				m.tell(how, again)
			}
		})
	}
}

// Configure puts into force what needs no start, and leaves the rest to the next one.
func (m *Machine) Configure(_ context.Context, settings smm.Settings) error {
	wanted := m.everything(settings)
	m.mu.Lock()
	defer m.mu.Unlock()
	inForce := maps.Clone(m.setup)
	for _, d := range m.registry.Definition {
		if !d.ResetRequired {
			inForce[d.Name] = wanted[d.Name]
		}
	}
	m.setup = inForce
	return nil
}

// Close lets go of the machine, which goes on.
func (m *Machine) Close() error {
	m.end()
	err := m.letGo()
	m.work.Wait() // for those who have seen the end, or see it now that acts is free
	return errors.Join(err, m.folder.close())
}

func (m *Machine) letGo() error {
	m.acts.Lock()
	defer m.acts.Unlock()
	m.mu.Lock()
	b := m.boot
	m.boot = nil
	m.mu.Unlock()
	if b != nil {
		b.close()
		return nil
	}
	return os.RemoveAll(m.folder.path)
}
