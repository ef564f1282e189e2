package libvirt

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	rpc "github.com/digitalocean/go-libvirt"

	"biosv/generated"
	"biosv/machine/firmware"
	"biosv/smm"
)

// hear puts an event where follow takes it; one that is too much is made up for by a look.
func (m *Machine) hear(e lifecycle) {
	select {
	case m.news <- e:
	default:
	}
}

// Resume looks at what the machine does, and what became of it meanwhile.
func (m *Machine) Resume(context.Context) { m.hear(connected) }

// follow takes the events one after the other.
func (m *Machine) follow() {
	for {
		select {
		case <-m.life.Done():
			return
		case e := <-m.news:
			m.happened(m.life, e)
		}
	}
}

func (m *Machine) happened(ctx context.Context, e lifecycle) {
	switch rpc.DomainEventType(e.event) {
	case rpc.DomainEventStopped:
		m.stopped(ctx, detailNames[rpc.DomainEventStoppedDetailType(e.detail)])
	case rpc.DomainEventCrashed:
		m.report(ctx, smm.Event{
			Severity: generated.EventSeverityCritical, MessageID: "BiosV.1.0.OperatingSystemPanicked", Message: "The operating system panicked.",
		})
	case rpc.DomainEventDefined, rpc.DomainEventUndefined, rpc.DomainEventStarted:
		m.look(ctx)
	default:
		if e == connected {
			m.look(ctx)
			m.find(ctx)
		}
	}
}

func (m *Machine) report(ctx context.Context, e smm.Event) {
	if err := m.supervisor.Report(ctx, e); err != nil && ctx.Err() == nil {
		m.log.Error("an event of a machine could not be written", "event", e.Message, "error", err)
	}
}

// look keeps whether the machine is what it is here.
func (m *Machine) look(ctx context.Context) {
	m.looks.Lock()
	defer m.looks.Unlock()
	m.mu.Lock()
	fresh := m.fresh
	m.mu.Unlock()
	if fresh {
		return
	}
	why, err := m.divergence(ctx)
	if err == nil {
		err = m.supervisor.Diverge(ctx, why)
	}
	if err != nil && ctx.Err() == nil {
		m.log.Warn("whether a machine has diverged is not known", "error", err)
	}
}

// divergence says what others made of the machine; empty where it is what it is here.
func (m *Machine) divergence(ctx context.Context) (string, error) {
	d, err := m.host.definition(ctx, m.named(), 0)
	if rpc.IsNotFound(err) {
		return "libvirt has no such machine any more.", nil
	} else if err != nil {
		return "", err
	}
	if gone := d.missing(m.parts); len(gone) > 0 {
		return fmt.Sprintf("its definition in libvirt was changed, and lacks %s. Its next start does not ask here as it should: detach it, and attach it again.", strings.Join(gone, "; ")), nil
	}
	if err := m.host.hooked(); err != nil {
		return err.Error() + ".", nil
	}
	state, err := m.host.state(ctx, m.named())
	if err != nil {
		return "", err
	}
	if state != generated.PowerStateOff {
		pid := m.process()
		if goesOn(pid) {
			return "it goes on from memory that was saved before, or comes from another host: what its operating system knows of its variables is of then. Its next boot ends that.", nil
		}
		if m.ours(pid) && slices.ContainsFunc(commandLine(pid), func(word string) bool { return len(bootIndexed("-device '"+word+"'")) > 0 }) {
			return "libvirt gave a device a bootindex, by which its firmware rewrites the boot order at each start: detach it, and attach it again.", nil
		}
		return "", nil
	}
	saved, err := do(ctx, m.host, "tell whether it saved memory", func(l *rpc.Libvirt) (int32, error) { return l.DomainHasManagedSaveImage(m.named(), 0) })
	if err != nil {
		return "", err
	}
	if saved != 0 {
		return "libvirt saved its memory, and its next start goes on from there, with what its operating system knows of its variables now.", nil
	}
	if _, err := os.Stat(m.parts.at(fileMigrated)); err == nil {
		return "it was moved to another host, where its variables are not these.", nil
	}
	return "", nil
}

// find takes up a boot that goes on since biosv was here before, or what became of it.
func (m *Machine) find(ctx context.Context) {
	state, err := m.host.state(ctx, m.named())
	if err != nil {
		return // that was told by look
	}
	m.turns.Lock()
	m.mu.Lock()
	known := m.boot != nil
	m.mu.Unlock()
	pid := m.process()
	switch {
	case state == generated.PowerStateOff:
		m.turns.Unlock()
		m.stopped(ctx, unheard)
		return
	case known || pid == 0 || !m.ours(pid):
	default:
		if err := m.adopt(ctx, pid); err != nil {
			m.log.Error("a machine that runs cannot be answered", "error", err)
		}
	}
	m.turns.Unlock()
}

// adopt answers a guest that runs already. Whether boot services have ended while nobody listened cannot be known: the
// guest has the fewer rights.
func (m *Machine) adopt(ctx context.Context, pid int) error {
	info, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
	if err != nil {
		return err
	}
	uid, gid, err := ownerOf(info)
	if err != nil {
		return err
	}
	l, err := listen(m.parts.at(socketVBIOS), uid, gid)
	if err != nil {
		return err
	}
	m.answer(l, nil, true).Found(ctx)
	return nil
}

// stopped tells of the end of a boot, and starts the machine again after a reset. What ended is observed: the event may be
// that of a boot before the present one. libvirt counts a machine as paused before it runs its hook, so where the machine is
// off, the boot that there was before that was asked has ended; one that has begun since has concluded it.
func (m *Machine) stopped(ctx context.Context, how string) {
	m.mu.Lock()
	ended := m.boot
	m.mu.Unlock()
	if state, err := m.host.state(ctx, m.named()); err == nil && state != generated.PowerStateOff {
		return
	}
	m.turns.Lock()
	m.mu.Lock()
	still := m.boot == ended
	m.mu.Unlock()
	again := still && m.conclude(ctx, how, true)
	m.turns.Unlock()
	m.look(ctx)
	if !again {
		return
	}
	m.acts.Lock()
	defer m.acts.Unlock()
	m.mu.Lock()
	wanted := m.between // nobody else has started it meanwhile
	m.mu.Unlock()
	if !wanted {
		return
	}
	err := m.start(ctx)
	m.mu.Lock()
	m.between = false
	m.mu.Unlock()
	if err == nil {
		return
	}
	if state, e := m.host.state(ctx, m.named()); e == nil && state != generated.PowerStateOff {
		return // somebody else did
	}
	m.log.Error("a machine that was reset could not be started again", "error", err)
	m.report(ctx, firmware.StartFailed(err, m.domain.Name))
}

// How libvirt ended a machine, where it is not for QEMU to say.
const (
	unheard      = "unheard" // libvirt's event did not come, or comes too late
	destroyed    = "destroyed"
	saved        = "saved"
	migrated     = "migrated"
	fromSnapshot = "snapshot"
	panicked     = "panicked"
)

var detailNames = map[rpc.DomainEventStoppedDetailType]string{
	rpc.DomainEventStoppedDestroyed: destroyed, rpc.DomainEventStoppedSaved: saved, rpc.DomainEventStoppedMigrated: migrated,
	rpc.DomainEventStoppedFromSnapshot: fromSnapshot, rpc.DomainEventStoppedCrashed: panicked,
}

var stops = map[string]smm.Event{
	destroyed:    {Severity: generated.EventSeverityWarning, MessageID: "BiosV.1.0.MachineStopped", Message: "The machine lost its power: libvirt was asked for that."},
	saved:        {Severity: generated.EventSeverityWarning, MessageID: "BiosV.1.0.MachineSaved", Message: "The machine's memory was saved by libvirt, and it stopped there."},
	migrated:     {Severity: generated.EventSeverityWarning, MessageID: "BiosV.1.0.MachineMigrated", Message: "The machine was moved to another host by libvirt."},
	fromSnapshot: {Severity: generated.EventSeverityWarning, MessageID: "BiosV.1.0.MachineReverted", Message: "The machine was put back to a snapshot by libvirt."},
}

// lost is told of where neither libvirt nor QEMU said how a machine ended.
var lost = smm.Event{Severity: generated.EventSeverityWarning, MessageID: "BiosV.1.0.MachineStopped", Message: "The machine lost its power; by whom was not heard here."}

// conclude lets go of a boot that has ended, tells how, and says whether the machine is to start again, where it may.
// The caller holds turns.
func (m *Machine) conclude(ctx context.Context, stop string, may bool) bool {
	ran, err := firmware.Resumed(m.parts.at(fileEvents)) // libvirt starts QEMU stopped, and lets it go when all is well
	if err != nil {
		if b := m.taken(); b != nil {
			b.close()
		}
		return false // nothing was prepared here since the end before
	}
	how, err := firmware.LastEnd(m.parts.at(fileEvents))
	if err != nil {
		m.log.Error("how a machine ended cannot be read", "error", err)
	}
	if stop == panicked {
		how = firmware.GuestPanic
	}
	m.mu.Lock()
	b, restart, ordered := m.boot, m.again, m.ordered
	e, told := stops[stop]
	again := false
	switch {
	case !ran: // which whoever asked for the start was told
		told = false
	case stop == destroyed && ordered:
		told, again = false, restart
	case stop == unheard && how == firmware.Killed:
		told, again = !ordered, ordered && restart
		e = lost
	case !told:
		e, told, again = how.Event(), true, m.startsAgain(how, restart)
	}
	again = again && may
	m.boot, m.again, m.ordered, m.between = nil, false, false, again
	m.mu.Unlock()
	if b != nil {
		b.close()
	}
	if err := m.clean(); err != nil {
		m.log.Error("a machine's folder cannot be cleaned", "error", err)
	}
	if stop == migrated {
		if err := os.WriteFile(m.parts.at(fileMigrated), nil, 0o600); err != nil {
			m.log.Error("that a machine was moved cannot be kept", "error", err)
		}
	}
	if told {
		m.report(ctx, e)
	}
	return again
}

// startsAgain says whether the machine starts again after such an end, as its owner had wanted it of libvirt; restart says
// that a restart was asked for here.
func (m *Machine) startsAgain(how firmware.End, restart bool) bool {
	wanted := func(which string) bool { return strings.HasSuffix(m.original.end(which), "restart") }
	switch {
	case how == firmware.GuestPanic:
		return wanted("on_crash")
	case how == firmware.GuestShutdown:
		return restart || wanted("on_poweroff")
	}
	return how.Reset() && wanted("on_reboot")
}
