// Package sim is a simulated machine, for trying things: a server with two processors that has never stood
// anywhere. It has a power supply that takes its time, sensors that follow load and fans, and attributes of every
// kind, each of which does something that another operation shows. [Open] makes one; a fresh installation has one
// under the name demo.
//
// Nothing in it is chance. What differs from machine to machine, and what comes and goes in one, is drawn from the
// domain's seed and from the clock: two machines with the same seed and settings show the same at the same time.
//
// It lives in memory. When biosv ends, it loses its power, and PowerRestorePolicy says what becomes of it.
// Nothing in it ever pauses it, so it is never Paused.
package sim

import (
	"context"
	"sync"
	"time"

	"biosv/generated"
	"biosv/smm"
)

// Machine is a simulated machine; it satisfies [smm.Machine].
type Machine struct {
	domain     smm.Domain
	supervisor smm.Supervisor
	clock      clock
	registry   generated.GetAttributeRegistryReply

	acts    sync.Mutex      // held by who changes the power, over what must be on disk before
	life    context.Context // ends with Close
	end     context.CancelFunc
	starts  sync.WaitGroup     // the starts that wait for the power to be off
	abandon context.CancelFunc // gives the one that waits up; guarded by acts

	mu    sync.Mutex // guards what follows, and is never held while the supervisor is at work
	power transition
	setup setup
}

// clock is where a machine has its times from.
type clock interface {
	Now() time.Time
	After(time.Duration) <-chan time.Time
}

type wallClock struct{}

func (wallClock) Now() time.Time                         { return time.Now() }
func (wallClock) After(d time.Duration) <-chan time.Time { return time.After(d) }

// Open makes the machine of a domain, which is Off; it is an [smm.Opener].
func Open(_ context.Context, d smm.Domain, settings smm.Settings, s smm.Supervisor) (smm.Machine, error) {
	return open(d, settings, s, wallClock{}), nil
}

func open(d smm.Domain, settings smm.Settings, s smm.Supervisor, c clock) *Machine {
	m := &Machine{domain: d, supervisor: s, clock: c, registry: registry(d), abandon: func() {}}
	m.life, m.end = context.WithCancel(context.Background())
	m.power = transition{state: generated.PowerStateOff}
	m.setup = m.everything(settings)
	return m
}

var (
	_ smm.Machine = (*Machine)(nil)
	_ smm.Opener  = Open
)

// Registry gives the attributes.
func (m *Machine) Registry() generated.GetAttributeRegistryReply { return m.registry }

// Configure puts into force what needs no start, and leaves the rest to the next one.
func (m *Machine) Configure(_ context.Context, settings smm.Settings) error {
	wanted := m.everything(settings)
	m.mu.Lock()
	defer m.mu.Unlock()
	inForce := setup{}
	for _, d := range m.registry.Definition {
		if d.ResetRequired {
			inForce[d.Name] = m.setup[d.Name]
		} else {
			inForce[d.Name] = wanted[d.Name]
		}
	}
	m.setup = inForce
	return nil
}

// Close takes the power away and waits for a start that is under way.
func (m *Machine) Close() error {
	m.end()
	// Whoever changes the power now has seen that the end has come when the lock is free again.
	m.acts.Lock()
	m.mu.Lock()
	m.power = transition{state: generated.PowerStateOff}
	m.mu.Unlock()
	m.acts.Unlock()
	m.starts.Wait()
	return nil
}

// now is the machine at one time.
type now struct {
	at    time.Time
	state generated.PowerState
	since time.Time // when it got the power that it has
	setup setup
}

func (m *Machine) now() now {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := m.clock.Now()
	return now{at: at, state: m.power.at(at), since: m.power.since, setup: m.setup}
}
