package sim

import (
	"context"
	"fmt"
	"time"

	"biosv/fault"
	"biosv/generated"
	"biosv/machine"
	"biosv/smm"
)

// How long things take.
const (
	bootTime     = 300 * time.Millisecond // from the start to the operating system; BootDelaySeconds comes on top
	cutTime      = 300 * time.Millisecond // until the supplies are empty
	shutdownTime = 500 * time.Millisecond // an operating system that ends in order
	offTime      = 200 * time.Millisecond // without power in a PowerCycle
)

// transition is the last change of the power, from which the state at any time follows.
type transition struct {
	state generated.PowerState
	until time.Time            // when then follows
	then  generated.PowerState // absent: the state stays until somebody changes it
	since time.Time            // when the machine got power
}

func (p transition) at(t time.Time) generated.PowerState {
	if p.then != "" && !t.Before(p.until) {
		return p.then
	}
	return p.state
}

// Power observes the state.
func (m *Machine) Power(context.Context) (generated.PowerState, error) { return m.now().state, nil }

// Resets are all that there are.
func (m *Machine) Resets() []generated.ResetType { return machine.AllResets() }

// Reset begins a change of the power. Which makes sense when is judged in smm/power; here is refused only what
// cannot be done at all: to start what has power, or to ask an operating system that does not run.
func (m *Machine) Reset(ctx context.Context, how generated.ResetType) error {
	m.acts.Lock()
	defer m.acts.Unlock()
	if m.life.Err() != nil {
		return fault.Unavailable(fault.MachineUnavailable, time.Second, "The simulated machine was let go of.")
	}
	off, on := generated.PowerStateOff, generated.PowerStateOn
	state := m.now().state
	switch {
	case how == generated.ResetTypeForceOff:
		m.abandon()
		if state != off {
			m.powerOff(cutTime, off)
		}
	case state == off && (how == generated.ResetTypeOn || how == generated.ResetTypePushPowerButton),
		state != off && how == generated.ResetTypeForceRestart:
		return m.start(ctx)
	case state == on && (how == generated.ResetTypeGracefulShutdown || how == generated.ResetTypePushPowerButton):
		m.powerOff(shutdownTime, off)
	case state == on && how == generated.ResetTypeGracefulRestart:
		// PoweringOff until it starts again: the power stays on.
		m.powerOff(shutdownTime, "")
		m.startIn(shutdownTime)
	case state == on && how == generated.ResetTypePowerCycle:
		m.powerOff(cutTime, off)
		m.startIn(cutTime + offTime)
	case state == on && how == generated.ResetTypeNmi:
		return m.supervisor.Report(ctx, smm.Event{
			Severity: generated.EventSeverityWarning, MessageID: "BiosV.1.0.NonMaskableInterrupt",
			Message: "The operating system got a non-maskable interrupt and went on.",
		})
	default:
		return fault.Conflict(fault.WrongPowerState, "The power is %s: %s cannot be done now.", state, how)
	}
	return nil
}

// powerOff begins a change to off; then is what follows by itself.
func (m *Machine) powerOff(takes time.Duration, then generated.PowerState) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.power = transition{state: generated.PowerStatePoweringOff, until: m.clock.Now().Add(takes), then: then, since: m.power.since}
}

// start starts the firmware. What must be on disk is, before there is anything to see of the start: where it
// cannot be written, the machine does not start and stays as it is.
func (m *Machine) start(ctx context.Context) error {
	settings, err := m.supervisor.Starting(ctx)
	if err != nil {
		return err
	}
	setup := m.everything(settings)
	for _, e := range m.bootReport(setup) {
		if err := m.supervisor.Report(ctx, e); err != nil {
			return err
		}
	}
	m.abandon()
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.clock.Now()
	since := m.power.since
	if m.power.at(t) == generated.PowerStateOff {
		since = t
	}
	m.setup = setup
	m.power = transition{state: generated.PowerStatePoweringOn, until: t.Add(bootTime + setup.bootDelay()), then: generated.PowerStateOn, since: since}
	return nil
}

// startIn starts the machine after a time, unless its power is changed or it is closed before.
func (m *Machine) startIn(d time.Duration) {
	ctx, abandon := context.WithCancel(m.life)
	m.abandon = abandon
	due := m.clock.After(d)
	m.starts.Go(func() {
		select {
		case <-ctx.Done():
			return
		case <-due:
		}
		m.acts.Lock()
		defer m.acts.Unlock()
		if ctx.Err() != nil {
			return
		}
		m.abandon = func() {} // its time has come: what it does itself is not to end it
		defer abandon()
		if err := m.start(ctx); err != nil {
			m.stayOff(ctx, err)
		}
	})
}

// stayOff is the end of a restart that could not be written down.
func (m *Machine) stayOff(ctx context.Context, why error) {
	m.mu.Lock()
	m.power = transition{state: generated.PowerStateOff}
	m.mu.Unlock()
	// What kept the start from being written may keep this from it too. Then the state alone tells.
	_ = m.supervisor.Report(ctx, smm.Event{
		Severity: generated.EventSeverityCritical, MessageID: "BiosV.1.0.StartFailed",
		Message: fmt.Sprintf("The machine was to start again and stays off: %v", fault.Of(why, m.domain.Name)),
	})
}
