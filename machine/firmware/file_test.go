package firmware

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"biosv/generated"
	"biosv/smm"
	"biosv/smm/variable/flash"
)

// put makes a file with a content, and gives its path.
func put(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestWhatQEMUsUserPutsInAFilesPlaceIsNotRead(t *testing.T) {
	t.Parallel()
	link, pipe := filepath.Join(t.TempDir(), "link"), filepath.Join(t.TempDir(), "pipe")
	if err := errors.Join(os.Symlink(put(t, "secret"), link), unix.Mkfifo(pipe, 0o600)); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{"a link": link, "a pipe": pipe, "a folder": t.TempDir(), "what is too large": put(t, "12345")} {
		if text, err := ReadFile(path, 4); err == nil {
			t.Errorf("%s is read: %q", name, text)
		}
	}
	for name, path := range map[string]string{"a link": link, "a pipe": pipe} { // none of them waits
		_, ended := LastEnd(path)
		_, stood := StoodStill(path)
		if ended == nil || stood == nil || Trim(path) == nil {
			t.Errorf("%s is read for events", name)
		}
	}
	if text, err := ReadFile(put(t, "1234"), 4); err != nil || string(text) != "1234" {
		t.Errorf("%q, %v", text, err)
	}
	if text, err := ReadEnd(put(t, "12345"), 4); err != nil || string(text) != "2345" {
		t.Errorf("%q, %v", text, err)
	}
}

// A guest that writes to pvpanic without a pause has the second monitor write as fast.
func TestEventsWithoutEndFillNoDiskAndHideNoEnd(t *testing.T) {
	t.Parallel()
	const crash = `{"event": "GUEST_CRASHLOADED", "data": {"action": "run"}}` + "\n"
	path := put(t, "")
	f, err := os.OpenFile(path, os.O_RDWR, 0) // as QEMU does
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for range 4 {
		if _, err := f.WriteString(strings.Repeat(crash, 3*mostEvents/len(crash))); err != nil {
			t.Fatal(err)
		}
		if err := Trim(path); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.WriteString(`{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-reset"}}` + "\n"); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if on := info.Sys().(*syscall.Stat_t).Blocks * 512; on > 2*mostEvents {
		t.Errorf("%d bytes of %d are on disk", on, info.Size())
	}
	if how, err := LastEnd(path); err != nil || how != GuestReset {
		t.Errorf("it ended by %q, %v", how, err)
	}
}

func TestALongLineHidesNoEnd(t *testing.T) {
	t.Parallel()
	long := `{"event": "BLOCK_IO_ERROR", "data": {"reason": "` + strings.Repeat("x", 1<<17) + `"}}` + "\n"
	if how, err := LastEnd(put(t, long+`{"event": "SHUTDOWN", "data": {"reason": "guest-reset"}}`+"\n")); err != nil || how != GuestReset {
		t.Errorf("it ended by %q, %v", how, err)
	}
}

func TestTheFlashIsTheOneThatIsRendered(t *testing.T) {
	t.Parallel()
	if FlashSize != flash.Size || VariableStorage != flash.Capacity {
		t.Errorf("%#x and %#x are rendered", flash.Size, flash.Capacity)
	}
}

// supervisor hears of one boot, whose flash cannot be taken over.
type supervisor struct{ told []string }

func (s *supervisor) Starting(context.Context) (smm.Settings, error)               { return nil, nil }
func (s *supervisor) Diverge(context.Context, string) error                        { return nil }
func (s *supervisor) Enter(context.Context, generated.GuestPhase, smm.Event) error { return nil }
func (s *supervisor) Begin(context.Context, string) ([]byte, bool, error)          { return nil, false, nil }
func (s *supervisor) TakeOver(_ context.Context, _ string, rendered, found []byte) error {
	return errors.New("it is damaged")
}
func (s *supervisor) Report(_ context.Context, e smm.Event) error {
	s.told = append(s.told, e.MessageID)
	return nil
}

func TestTheEventLogTellsOfWhatTheFirmwareWroteInVain(t *testing.T) {
	t.Parallel()
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{"damaged": put(t, "written"), "a pipe": pipe, "too large": put(t, strings.Repeat("x", FlashSize+1))} {
		s := &supervisor{}
		b := &Boot{Domain: "web1", Flash: path, Rendered: []byte("rendered"), Variables: s, Supervisor: s, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
		for range 2 {
			if err := b.Arrived(t.Context()); err != nil {
				t.Errorf("%s: its guest is kept from its variables: %v", name, err)
			}
		}
		if len(s.told) != 1 || s.told[0] != "BiosV.1.0.FirmwareWritesLost" {
			t.Errorf("%s: the log tells of %q", name, s.told)
		}
	}
}
