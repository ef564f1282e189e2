package guest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// monitor is a connection to QEMU's monitor (QEMU Machine Protocol).
type monitor struct {
	mu     sync.Mutex
	conn   net.Conn
	answer *json.Decoder
}

// dialMonitor waits for the socket, which QEMU makes, unless QEMU ends before.
func dialMonitor(path string, ended <-chan struct{}) (*monitor, error) {
	late := time.After(commandTime)
	for {
		conn, err := net.Dial("unix", path)
		if err == nil {
			m := &monitor{conn: conn, answer: json.NewDecoder(conn)}
			var greeting json.RawMessage
			if err := m.answer.Decode(&greeting); err != nil {
				return nil, errors.Join(err, conn.Close())
			}
			return m, m.execute("qmp_capabilities", nil, nil)
		}
		select {
		case <-ended:
			return nil, errors.New("QEMU ended")
		case <-late:
			return nil, err
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// execute runs a command and reads its answer; events that come before it are passed over.
func (m *monitor) execute(command string, arguments map[string]any, answer any) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.conn.SetDeadline(time.Now().Add(commandTime)); err != nil {
		return err
	}
	question := map[string]any{"execute": command}
	if arguments != nil {
		question["arguments"] = arguments
	}
	if err := json.NewEncoder(m.conn).Encode(question); err != nil {
		return err
	}
	for {
		var a struct {
			Return json.RawMessage
			Error  *struct{ Desc string }
		}
		if err := m.answer.Decode(&a); err != nil {
			return err
		}
		switch {
		case a.Error != nil:
			return fmt.Errorf("%s: %s", command, a.Error.Desc)
		case a.Return != nil && answer != nil:
			return json.Unmarshal(a.Return, answer)
		case a.Return != nil:
			return nil
		}
	}
}

// human runs a command of the monitor for people.
func (m *monitor) human(line string) (text string, err error) {
	err = m.execute("human-monitor-command", map[string]any{"command-line": line}, &text)
	return text, err
}
