//go:build guest

package vbios_test

import (
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"biosv/internal/guest"
	"biosv/service/uefi"
	"biosv/service/uefi/frame"
)

// One kernel starts another in its place: firmware does not run again, and the other one finds the driver where the
// first one had it.
func TestAKernelThatIsStartedByAnotherHasItsVariables(t *testing.T) {
	t.Parallel()
	socket := socketPath(t)
	m := &memory{values: map[uefi.Variable]value{}}
	m.set("Outside", own, everywhere, "one")
	m.set("FirmwareOnly", own, nonVolatile|bootService, "secret")
	serve(t, socket, m, frame.BootServices)
	files := programs(t)
	initrd := filepath.Join(t.TempDir(), "initrd")
	kernel := guest.Image(t, guest.Config{Modules: []string{"efivarfs"}, Files: files}, initrd)
	files = maps.Clone(files)
	files["/kernel"], files["/initrd"] = kernel, initrd
	g := start(t, socket, files, "-m", "512") // Linux takes no kernel that needs more than half of it
	g.Await(t, "guest: ready")
	before := len(m.calls())
	g.AwaitNext(t, "guest: ready", func() { g.Tell(t, "start kexec /bin/root kexec /kernel /initrd '"+commandLine+"'") })
	for _, call := range m.calls()[before:] {
		if strings.HasPrefix(call, "boot services") || call == "exit" {
			t.Errorf("firmware ran again: %s", call)
		}
	}
	if got, _ := read(t, g, file("Outside")); got != content(everywhere, "one") {
		t.Errorf("%s was read", got)
	}
	g.Do(t, "run /bin/efivars write "+file("Inside")+" "+content(everywhere, "new"))
	if v := m.get("Inside", own); string(v.data) != "new" {
		t.Errorf("%q arrived", v.data)
	}
	if list := g.Do(t, "run /bin/efivars list"); slices.Contains(list, "| "+file("FirmwareOnly")) {
		t.Errorf("the list has what is the firmware's: %q", list)
	}
}

const longSilence = 40 * time.Second

// A guest with one processor goes on with everything else while the service is silent for longer than Linux lets a
// processor be stuck.
func TestAGuestGoesOnWhileTheServiceIsSilent(t *testing.T) {
	t.Parallel()
	socket := socketPath(t)
	m := &memory{values: map[uefi.Variable]value{}}
	m.set("Outside", own, everywhere, "one")
	serve(t, socket, m, frame.BootServices)
	g := start(t, socket, programs(t))
	g.Await(t, "guest: ready")
	g.Do(t, "start counter /bin/root count")
	m.silence.Lock()
	began, asked, seconds := time.Now(), 0, 0
	slowest, longest := time.Duration(0), time.Duration(0)
	for time.Since(began) < longSilence {
		line := g.AwaitNext(t, "counter: alive", func() {
			got, took := read(t, g, file("Outside"))
			if got != "EIO" {
				t.Errorf("%s was read", got)
			}
			asked++
			slowest = max(slowest, took)
		})
		_, text, _ := strings.Cut(line, "longest ")
		ms, err := strconv.Atoi(strings.TrimSuffix(text, " ms"))
		if err != nil {
			t.Fatalf("the guest said %q", line)
		}
		seconds++
		longest = max(longest, time.Duration(ms)*time.Millisecond)
	}
	m.silence.Unlock()
	t.Logf("in %s of silence the guest was alive in %d seconds, stood still for %s at most, and asked %d times, of which the longest took %s", longSilence, seconds, longest, asked, slowest)
	if slowest > 2*time.Second+busy || longest > 5*time.Second {
		t.Errorf("a call took %s, and the guest stood still for %s", slowest, longest)
	}
	g.Do(t, "stop counter")
	if stuck := g.Do(t, "run /bin/efivars log 'stuck for'"); len(stuck) > 0 {
		t.Errorf("the kernel complains: %q", stuck)
	}
	got, took := read(t, g, file("Outside"))
	for deadline := time.Now().Add(10 * time.Second); got == "EIO" && time.Now().Before(deadline); {
		got, took = read(t, g, file("Outside"))
	}
	if got != content(everywhere, "one") {
		t.Errorf("afterwards %s was read", got)
	}
	t.Logf("the first read afterwards took %s", took)
}

// A machine that is not as docs/vbios.md wants it, with S3 and with several boots in a process, lets a guest speak where
// firmware is believed to speak. It shows that the attack of machine/qemu's test is one.
func TestAMachineWithS3WakesToWhatItsGuestWants(t *testing.T) {
	t.Parallel()
	socket := socketPath(t)
	m := &memory{values: map[uefi.Variable]value{}}
	serve(t, socket, m, frame.BootServices)
	g := start(t, socket, programs(t), "-global", "ICH9-LPC.disable_s3=0", "-action", "reboot=reset", "-append", commandLine+" iomem=relaxed")
	g.Await(t, "guest: ready")
	before := len(m.calls())
	g.Tell(t, "start wake /bin/root wake 0 get "+own.String()+" Woken")
	for deadline := time.Now().Add(commandTime); !slices.ContainsFunc(m.calls(), func(c string) bool { return strings.HasSuffix(c, "get Woken") }); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it did not: %q", m.calls()[before:])
		}
	}
	if calls := m.calls()[before:]; len(calls) > 1 {
		t.Errorf("somebody else spoke before: %q", calls)
	}
}
