package qemu

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/digitalocean/go-qemu/qmp"

	"biosv/generated"
)

// monitor is a connection to QEMU's monitor (QEMU Machine Protocol).
type monitor struct {
	socket *qmp.SocketMonitor
	closed chan struct{} // when the connection has ended
}

const (
	dialTime    = 2 * time.Second
	commandTime = 2 * time.Second
)

// dial connects. Each event is given to tell, one after the other.
func dial(ctx context.Context, path string, tell func(qmp.Event)) (*monitor, error) {
	socket, err := qmp.NewSocketMonitor("unix", path, dialTime)
	if err != nil {
		return nil, err
	}
	m := &monitor{socket: socket, closed: make(chan struct{})}
	connected := make(chan error, 1)
	go func() { connected <- socket.Connect() }()
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	select {
	case err = <-connected:
	case <-ctx.Done():
		_ = socket.Disconnect()
		<-connected
		err = ctx.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("speak with QEMU's monitor: %w", err)
	}
	events, err := socket.Events(ctx) // it is never an error for a socket
	if err != nil {
		return nil, err
	}
	go func() {
		defer close(m.closed)
		for e := range events {
			tell(e)
		}
	}()
	return m, nil
}

// run has a command carried out that takes no arguments.
func (m *monitor) run(ctx context.Context, command string, answer any) error {
	return m.ask(ctx, qmp.Command{Execute: command}, answer)
}

// ask has a command carried out, and reads its answer into answer, unless that is nil.
func (m *monitor) ask(ctx context.Context, command qmp.Command, answer any) error {
	text, err := json.Marshal(command)
	if err != nil {
		return err
	}
	type result struct {
		text []byte
		err  error
	}
	done := make(chan result, 1)
	go func() {
		text, err := m.socket.Run(text)
		done <- result{text, err}
	}()
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	select {
	case r := <-done:
		if r.err != nil || answer == nil {
			return r.err
		}
		return json.Unmarshal(r.text, &struct{ Return any }{answer})
	case <-ctx.Done():
		m.close() // its answers would be taken for those of the next command
		return fmt.Errorf("QEMU's monitor does not answer: %w", ctx.Err())
	}
}

func (m *monitor) close() {
	_ = m.socket.Disconnect() // what it was has ended either way
	<-m.closed
}

// states are the states of a machine by what query-status gives (QEMU QMP reference, RunState).
var states = map[string]generated.PowerState{
	"running": generated.PowerStateOn, "prelaunch": generated.PowerStatePoweringOn, "shutdown": generated.PowerStatePoweringOff,
	"paused": generated.PowerStatePaused, "guest-panicked": generated.PowerStatePaused, "internal-error": generated.PowerStatePaused,
	"io-error": generated.PowerStatePaused, "watchdog": generated.PowerStatePaused, "suspended": generated.PowerStatePaused,
	"debug": generated.PowerStatePaused, "save-vm": generated.PowerStatePaused, "restore-vm": generated.PowerStatePaused,
	"inmigrate": generated.PowerStatePaused, "postmigrate": generated.PowerStatePaused, "finish-migrate": generated.PowerStatePaused,
	"colo": generated.PowerStatePaused,
}

func (m *monitor) state(ctx context.Context) (generated.PowerState, error) {
	var status struct{ Status string }
	if err := m.run(ctx, "query-status", &status); err != nil {
		return "", err
	}
	s, ok := states[status.Status]
	if !ok {
		return "", fmt.Errorf("QEMU is in a state that is not known here: %q", status.Status)
	}
	return s, nil
}
