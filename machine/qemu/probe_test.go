package qemu

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"biosv/generated"
	"biosv/smm"
)

// A program that is started in QEMU's place, by the same launcher with the same arguments, tries what is not its
// machine's. It has QEMU's user, and not even its sandbox.
func TestAMachinesProcessReachesNothingOfOthers(t *testing.T) {
	t.Parallel()
	data, err := os.MkdirTemp("", "data") // a short path: it is not its length that keeps a socket from being reached
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(data) })
	b := newTPMBench(t)
	root := os.Geteuid() == 0
	if root {
		b.host.FirstUser, b.host.Users = 2_100_000_000, 16
	}
	b.host.Folder, b.host.TPMs = filepath.Join(data, "run"), filepath.Join(data, "vtpm")
	if err := b.machine.Close(); err != nil { // it was in another folder
		t.Fatal(err)
	}
	b.open()
	opened, err := b.host.Open(t.Context(), smm.Domain{Name: "web2", UUID: "5b1f6d0e-0c57-4a0c-9d2e-0d6a4c0a1b2d", VirtualMachine: b.domain.VirtualMachine}, nil, b)
	if err != nil {
		t.Fatal(err)
	}
	other := opened.(*Machine)
	t.Cleanup(func() {
		if err := other.Reset(context.Background(), generated.ResetTypeForceOff); err != nil {
			t.Error(err)
		}
		if err := other.Close(); err != nil {
			t.Error(err)
		}
	})
	b.reset(generated.ResetTypeOn)
	if err := other.Reset(t.Context(), generated.ResetTypeOn); err != nil {
		t.Fatal(err)
	}
	key, store := filepath.Join(data, "admin.key"), filepath.Join(data, "state.db")
	for _, file := range []string{key, store} {
		if err := os.WriteFile(file, []byte("secret"), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	one, two := b.machine.running(), other.running()
	users := map[int]string{os.Geteuid(): "biosv"}
	for name, p := range map[string]*process{"QEMU of web1": one.process, "TPM of web1": one.tpm.process, "QEMU of web2": two.process, "TPM of web2": two.tpm.process} {
		id := credentials(t, p.pid)
		if who, taken := users[id]; taken == root {
			t.Errorf("the %s has the user %d, of %s", name, id, who)
		}
		users[id] = name
	}
	if !root { // nobody but root can give users, and docs/security.md says what that means
		return
	}

	for _, own := range []string{fileFlash, fileROM, fileEvents, socketVBIOS, socketTPM} {
		if said := b.say("try " + own); !strings.Contains(said, ": <nil>") {
			t.Errorf("its own %s: %s", own, said)
		}
	}
	for _, name := range []string{fileFlash, fileROM, fileEvents, fileTold, filePID, fileLog, socketVBIOS, "new"} {
		if said := b.say("plant " + name); said != denied {
			t.Errorf("something else as its %s: %s", name, said)
		}
	}
	if said := b.say("try " + filePID); strings.Contains(said, "write") {
		t.Errorf("its own %s: %s", filePID, said)
	}
	var paths []string
	for _, file := range []string{"", socketQMP, socketVBIOS, socketSerial, socketTPM, fileFlash, fileEvents, filePID} {
		paths = append(paths, other.folder.at(file), filepath.Join("../web2", file), fmt.Sprintf("/proc/%d/cwd/%s", two.process.pid, file))
	}
	for _, file := range []string{b.image, key, store, filepath.Join(other.tpmFolder(), fileState), filepath.Join(b.machine.tpmFolder(), fileState), data, b.host.Folder} {
		paths = append(paths, file, fmt.Sprintf("/proc/%d/root%s", os.Getpid(), file), fmt.Sprintf("/proc/%d/root%s", two.process.pid, file))
	}
	for _, pid := range []int{os.Getpid(), two.process.pid, two.tpm.process.pid, one.tpm.process.pid} {
		for _, file := range []string{"mem", "fd", "environ"} {
			paths = append(paths, fmt.Sprintf("/proc/%d/%s", pid, file))
		}
		if said := b.say(fmt.Sprint("signal ", pid)); said != "operation not permitted" {
			t.Errorf("a signal for %d: %s", pid, said)
		}
	}
	for _, path := range paths {
		if said := b.say("try " + path); said != denied {
			t.Errorf("%s: %s", path, said)
		}
	}
}

// credentials gives the user of a process, which it has in all of the kernel's senses, with a group of the same number
// and no others.
func credentials(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := map[string][]string{}
	for line := range strings.Lines(string(text)) {
		if name, values, ok := strings.Cut(line, ":"); ok {
			fields[name] = strings.Fields(values)
		}
	}
	id := fields["Uid"][0]
	uid, err := strconv.Atoi(id)
	if err != nil {
		t.Fatal(err)
	}
	if uid == os.Geteuid() {
		return uid
	}
	for _, name := range []string{"Uid", "Gid", "Groups"} {
		if slices.ContainsFunc(fields[name], func(f string) bool { return f != id }) {
			t.Errorf("the process %d has %s %s", pid, name, fields[name])
		}
	}
	for _, name := range []string{"CapInh", "CapPrm", "CapEff", "CapAmb"} {
		if none, err := strconv.ParseUint(fields[name][0], 16, 64); none != 0 || err != nil {
			t.Errorf("the process %d has %s %s", pid, name, fields[name])
		}
	}
	return uid
}
