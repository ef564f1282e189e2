package firmware

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestTheFirstReasonIsHowABootEnded(t *testing.T) {
	t.Parallel()
	const greeting = `{"QMP": {"version": {}, "capabilities": []}}` + "\n" + `{"return": {}}` + "\n"
	for name, row := range map[string]struct {
		events string
		want   End
		reset  bool
	}{
		"nothing":                      {"", Killed, false},
		"no such event":                {greeting + `{"event": "RESUME"}` + "\n", Killed, false},
		"a reset":                      {greeting + `{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-reset"}}` + "\n", GuestReset, true},
		"a reset, then libvirt's":      {greeting + `{"event": "SHUTDOWN", "data": {"reason": "host-qmp-system-reset"}}` + "\n" + `{"event": "SHUTDOWN", "data": {"reason": "host-signal"}}` + "\n", MonitorReset, true},
		"the guest's end":              {greeting + `{"event": "SHUTDOWN", "data": {"reason": "guest-shutdown"}}` + "\n" + `{"event": "SHUTDOWN", "data": {"reason": "host-signal"}}` + "\n", GuestShutdown, false},
		"a watchdog":                   {greeting + `{"event": "WATCHDOG", "data": {"action": "reset"}}` + "\n" + `{"event": "SHUTDOWN", "data": {"reason": "guest-reset"}}` + "\n", WatchdogReset, true},
		"a watchdog, and no more":      {greeting + `{"event": "WATCHDOG", "data": {"action": "poweroff"}}` + "\n", WatchdogOff, false},
		"a watchdog that only looks":   {greeting + `{"event": "WATCHDOG", "data": {"action": "none"}}` + "\n" + `{"event": "SHUTDOWN", "data": {"reason": "guest-shutdown"}}` + "\n", GuestShutdown, false},
		"a line that is not whole":     {greeting + `{"event": "SHUTD`, Killed, false},
		"an event without data":        {greeting + `{"event": "SHUTDOWN"}` + "\n", Killed, false},
		"a reason that is not a text":  {greeting + `{"event": "SHUTDOWN", "data": {"reason": 7}}` + "\n", Killed, false},
		"a reason that nobody is told": {greeting + `{"event": "SHUTDOWN", "data": {"reason": "host-signal"}}` + "\n", "host-signal", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "events")
			if err := os.WriteFile(path, []byte(row.events), 0o600); err != nil {
				t.Fatal(err)
			}
			if got, err := LastEnd(path); err != nil || got != row.want || got.Reset() != row.reset || got.Event().Message == "" {
				t.Errorf("it ended by %q, %v, %v", got, err, got.Event())
			}
		})
	}
	if _, err := LastEnd(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a file: %v", err)
	}
}
