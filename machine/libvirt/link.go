package libvirt

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	rpc "github.com/digitalocean/go-libvirt"
	"github.com/digitalocean/go-libvirt/socket/dialers"

	"biosv/fault"
	"biosv/generated"
)

// link is a connection to libvirt's daemon.
type link struct {
	conn    net.Conn
	libvirt *rpc.Libvirt
	events  <-chan rpc.DomainEventLifecycleMsg
	stop    func() bool // has the connection stay open when what wanted it ends
}

const (
	dialTime = 5 * time.Second
	// callTime bounds a call; a start takes the hook and QEMU's own.
	callTime = 25 * time.Second
)

// Run keeps the connection to libvirt while it is wanted, tells the machines what happens to them, and answers libvirt's
// hook, until ctx ends.
func (h *Host) Run(ctx context.Context) {
	var hook sync.WaitGroup
	hook.Go(func() { h.serveHook(ctx) })
	defer hook.Wait()
	told := false
	for ctx.Err() == nil {
		h.mu.Lock()
		wanted := h.wanted || len(h.machines) > 0
		h.mu.Unlock()
		if wanted {
			l, err := h.connect(ctx)
			h.arrived(l, err)
			if err == nil {
				told = false
				h.deliver(l)
				h.arrived(nil, errors.New("the connection has ended"))
			} else if !told && ctx.Err() == nil {
				told = true
				h.Log.Warn("libvirt does not answer; it is tried on", "error", err)
			}
		}
		select {
		case <-ctx.Done():
		case <-h.poke:
		case <-time.After(h.dialTimer):
		}
	}
}

// arrived keeps what a try to connect gave.
func (h *Host) arrived(l *link, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.link, h.failure = l, err
	close(h.tried)
	h.tried = make(chan struct{})
}

// connect connects, and asks for events.
func (h *Host) connect(ctx context.Context) (l *link, err error) {
	l = &link{}
	var failures []error
	for _, path := range h.Sockets {
		if l.conn, err = (&net.Dialer{Timeout: dialTime}).DialContext(ctx, "unix", path); err == nil {
			break
		}
		failures = append(failures, err)
	}
	if err != nil {
		return nil, errors.Join(failures...)
	}
	// What is asked of a daemon that does not answer ends with the connection.
	l.stop = context.AfterFunc(ctx, func() { l.conn.Close() })
	slow := time.AfterFunc(dialTime, func() { l.conn.Close() })
	defer slow.Stop()
	l.libvirt = rpc.NewWithDialer(dialers.NewAlreadyConnected(l.conn))
	if err = l.libvirt.ConnectToURI(connection); err == nil {
		l.events, err = l.libvirt.LifecycleEvents(context.Background())
	}
	if err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// lifecycle is an event of a machine's life (libvirt, virDomainEventType).
type lifecycle struct{ event, detail int32 }

// connected is the event that there is a connection, so that everything is to be looked at.
var connected = lifecycle{-1, 0}

// mostNews is how many events a machine may be behind; then it looks for itself.
const mostNews = 64

// deliver gives each machine its events until the connection ends.
func (h *Host) deliver(l *link) {
	h.mu.Lock()
	for _, m := range h.machines {
		m.hear(connected)
	}
	h.mu.Unlock()
	for e := range l.events {
		h.mu.Lock()
		m := h.machines[e.Dom.UUID]
		h.mu.Unlock()
		if m != nil {
			m.hear(lifecycle{e.Event, e.Detail})
		}
	}
	l.close()
}

func (l *link) close() {
	l.stop()
	l.conn.Close()
}

// asked gives the connection, and waits for it where there is none, until it was tried.
func (h *Host) asked(ctx context.Context) (*rpc.Libvirt, error) {
	for tries := 0; ; tries++ {
		h.mu.Lock()
		h.wanted = true
		l, tried, failure := h.link, h.tried, h.failure
		h.mu.Unlock()
		if l != nil {
			return l.libvirt, nil
		}
		if tries > 0 && failure != nil {
			return nil, fault.Unavailable(fault.MachineUnavailable, time.Second, "This host's libvirt does not answer (Debian package libvirt-daemon-system): %v.", failure)
		}
		h.hurry()
		select {
		case <-tried:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// hurry has it tried at once to connect.
func (h *Host) hurry() {
	select {
	case h.poke <- struct{}{}:
	default:
	}
}

// do asks libvirt. That there is no such machine stays libvirt's own error ([rpc.IsNotFound]).
func do[T any](ctx context.Context, h *Host, what string, ask func(*rpc.Libvirt) (T, error)) (answer T, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	l, err := h.asked(ctx)
	if err != nil {
		return answer, err
	}
	type result struct {
		answer T
		err    error
	}
	done := make(chan result, 1)
	go func() {
		answer, err := ask(l)
		done <- result{answer, err}
	}()
	select {
	case r := <-done:
		if r.err == nil || rpc.IsNotFound(r.err) {
			return r.answer, r.err
		}
		return r.answer, fault.Unavailable(fault.MachineUnavailable, time.Second, "libvirt does not %s: %v.", what, r.err)
	case <-ctx.Done():
		return answer, fault.Unavailable(fault.MachineUnavailable, time.Second, "libvirt does not %s: %v.", what, ctx.Err())
	}
}

// nothing makes a call that gives nothing one that does.
func nothing(ask func(*rpc.Libvirt) error) func(*rpc.Libvirt) (struct{}, error) {
	return func(l *rpc.Libvirt) (struct{}, error) { return struct{}{}, ask(l) }
}

// states are the states of a machine by libvirt's (virDomainState).
var states = map[rpc.DomainState]generated.PowerState{
	rpc.DomainRunning: generated.PowerStateOn, rpc.DomainBlocked: generated.PowerStateOn, rpc.DomainPaused: generated.PowerStatePaused,
	rpc.DomainShutdown: generated.PowerStatePoweringOff, rpc.DomainShutoff: generated.PowerStateOff, rpc.DomainCrashed: generated.PowerStateOff,
	rpc.DomainPmsuspended: generated.PowerStatePaused,
}

func (h *Host) state(ctx context.Context, d rpc.Domain) (generated.PowerState, error) {
	n, err := do(ctx, h, "tell what "+d.Name+" does", func(l *rpc.Libvirt) (int32, error) {
		state, _, err := l.DomainGetState(d, 0)
		return state, err
	})
	if err != nil {
		return "", err
	}
	s, ok := states[rpc.DomainState(n)]
	if !ok {
		return "", fault.Unavailable(fault.MachineUnavailable, time.Second, "libvirt says that the machine is in a state that is not known here: %d.", n)
	}
	return s, nil
}

func ownerOf(info os.FileInfo) (uid, gid int, err error) {
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, errors.New("the owner of " + info.Name() + " cannot be read")
	}
	return int(s.Uid), int(s.Gid), nil
}
