package qemu

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
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

// end is how a boot ended.
type end string

// The reasons of QEMU's event SHUTDOWN (QMP reference, ShutdownCause) that are told apart here, and what a watchdog does.
const (
	killed        end = "" // it came to no such event
	guestReset    end = "guest-reset"
	guestShutdown end = "guest-shutdown"
	guestPanic    end = "guest-panic"
	firmwareReset end = "subsystem-reset"
	watchdogReset end = "watchdog reset"
	watchdogOff   end = "watchdog poweroff"
)

// lastEnd reads how a boot ended from what its second monitor wrote. A reset by the watchdog looks like any other that
// comes from inside, but for the event before it; and there is no other event where it turned the machine off.
func lastEnd(path string) (reason end, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	watchdog := ""
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var e qmp.Event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			continue
		}
		switch e.Event {
		case "SHUTDOWN":
			text, _ := e.Data["reason"].(string)
			reason = end(text)
		case "WATCHDOG":
			watchdog, _ = e.Data["action"].(string)
		}
	}
	switch {
	case watchdog == watchdogActions["Restart"] && reason == guestReset:
		return watchdogReset, nil
	case watchdog == watchdogActions["PowerOff"] && reason == killed:
		return watchdogOff, nil
	}
	return reason, nil
}
