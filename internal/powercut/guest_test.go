//go:build guest

package powercut

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"biosv/generated"
	"biosv/internal/guest"
	"biosv/internal/testbed"
	"biosv/service/uefi/frame"
)

// A box may have a virtual machine, which says to biosv what a guest was recorded to say. In place of QEMU stands a
// program that says it (testdata/standin), so it is found as QEMU is, and believed because biosv started it.
const (
	machineName = "guest"
	appends     = 0x40 // EFI_VARIABLE_APPEND_WRITE (UEFI 2.10, 8.2.1)
)

// stormVendor is that of the variables that the storm writes.
var stormVendor = uuid.MustParse("5e0ad1f4-7c52-4b3c-9d0c-2f6a1f7b8c11")

// guestFiles are what biosv needs to have virtual machines.
func guestFiles(t *testing.T) map[string]string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "standin")
	build := exec.Command("go", "build", "-o", program, "./internal/powercut/testdata/standin")
	build.Dir, build.Env = testbed.Root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	files := map[string]string{"/bin/qemu-system-x86_64": program}
	for _, firmware := range []string{"/usr/share/qemu/firmware/60-edk2-x86_64.json", "/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"} {
		if _, err := os.Stat(firmware); err != nil {
			t.Fatalf("%v; it is in the package ovmf", err)
		}
		files[firmware] = firmware
	}
	return files
}

// guestWrites is what a guest was told of its writes.
type guestWrites struct {
	frames []*frame.Frame
	first  int // of the storm's
	told   int // answers so far
	// What may be there now, of the storm: more than one where it is not known whether a write was done whose answer
	// nobody heard.
	possible []guestState
}

// guestState are variables, and how many changes led to them.
type guestState struct {
	variables map[string]string
	changes   uint64
}

func newGuestWrites(t *testing.T) *guestWrites {
	t.Helper()
	frames, err := Storm()
	if err != nil {
		t.Fatal(err)
	}
	w := &guestWrites{frames: frames, possible: []guestState{{variables: map[string]string{}}}}
	if w.first = slices.IndexFunc(frames, func(f *frame.Frame) bool { r := setRequest(f); return r != nil && r.Vendor == stormVendor }); w.first < 0 {
		t.Fatal("the recording has no storm")
	}
	return w
}

// setRequest gives the request of a frame, if it is a SetVariable.
func setRequest(f *frame.Frame) *frame.SetVariableRequest {
	r, err := frame.ParseRequest(f.Kind, f.Body)
	if err != nil {
		return nil
	}
	set, _ := r.(*frame.SetVariableRequest)
	return set
}

// next gives the number of the SetVariable that follows one; -1 is before the first.
func (w *guestWrites) next(n int) int {
	for {
		if n = (n + 1) % len(w.frames); setRequest(w.frames[n]) != nil {
			return n
		}
	}
}

// after gives the state after a write that was done.
func (w *guestWrites) after(s guestState, n int) guestState {
	s.changes++
	r := setRequest(w.frames[n])
	if r.Vendor != stormVendor {
		return s
	}
	s.variables = maps.Clone(s.variables)
	switch {
	case r.Attributes&appends != 0:
		s.variables[r.Name] += string(r.Data)
	case r.Attributes == 0 || len(r.Data) == 0:
		delete(s.variables, r.Name)
	default:
		s.variables[r.Name] = string(r.Data)
	}
	return s
}

// unheard adds the states where the write was done whose answer nobody heard.
func (w *guestWrites) unheard(n int) {
	for _, s := range slices.Clone(w.possible) {
		w.possible = append(w.possible, w.after(s, n))
	}
}

// hear takes what the machine told on the console of its host, until that lost its power.
func (w *guestWrites) hear(t *testing.T, console []string) {
	t.Helper()
	last := -1
	for _, line := range console {
		_, text, ok := strings.Cut(line, "replay: ")
		var n int
		var status string
		if !ok {
			continue
		}
		if _, err := fmt.Sscanf(text, "%d %s", &n, &status); err != nil {
			continue // the power went while it spoke
		}
		if expected := w.next(last); n != expected { // another process answers, and it began anew
			if n != w.next(-1) {
				t.Fatalf("the machine was told the answer to write %d after that to write %d", n, last)
			}
			w.unheard(expected)
			w.unheard(n) // there may have been one more process, which answered nothing
		}
		last = n
		w.told++
		if status == frame.Success.Error() {
			for i, s := range w.possible {
				w.possible[i] = w.after(s, n)
			}
		}
	}
	if last >= 0 {
		w.unheard(w.next(last))
	}
}

// judge says that what is there is what the guest was told, and that the audit log has all of it. The machine is off.
func (w *guestWrites) judge(ctx context.Context, port generated.Port, found *state) error {
	call := generated.Call{Domain: machineName}
	there := guestState{variables: map[string]string{}, changes: found.outcomes["SetVariable Done "+machineName] + found.outcomes["DeleteVariable Done "+machineName]}
	list, err := port.ListVariables(ctx, call, &generated.ListVariablesRequest{MostVariables: new(generated.RecordLimit(mostRecords))})
	if err != nil {
		return err
	}
	for _, v := range list.Variable {
		if string(*v.VendorGuid) != stormVendor.String() {
			continue
		}
		reply, err := port.GetVariable(ctx, call, &generated.GetVariableRequest{Name: v.Name, VendorGuid: v.VendorGuid})
		if err != nil {
			return err
		}
		there.variables[string(*v.Name)] = string(reply.VariableData)
	}
	return w.match(there)
}

// match says that there is something that may be there, and nothing else.
func (w *guestWrites) match(there guestState) error {
	same := func(s guestState) bool { return s.changes == there.changes && maps.Equal(s.variables, there.variables) }
	if i := slices.IndexFunc(w.possible, same); i >= 0 {
		w.possible = []guestState{w.possible[i]}
		return nil
	}
	text := fmt.Sprintf("after %d answers there are\n\t%s", w.told, there)
	for _, s := range w.possible {
		text += fmt.Sprintf("\nand there should be\n\t%s", s)
	}
	return fmt.Errorf("%w: %s", errLost, text)
}

// What a power cut must never leave behind of a guest's writes is noticed.
func TestAWriteOfAGuestThatIsLostIsNoticed(t *testing.T) {
	t.Parallel()
	const answers = 30
	w := newGuestWrites(t)
	states, lines := []guestState{{variables: map[string]string{}}}, []string{"biosv: ready"}
	for n := w.next(-1); n < w.first+4*answers; n = w.next(n) {
		lines = append(lines, fmt.Sprintf("replay: %d EFI_SUCCESS", n))
		states = append(states, w.after(states[len(states)-1], n))
	}
	last := len(states) - 1
	next := w.after(states[last], w.next(lastNumber(t, lines)))
	w.hear(t, append(lines, "replay:")) // and the power went
	lost, twice, uncounted := states[last-1], states[last], states[last]
	twice.variables = maps.Clone(twice.variables)
	twice.variables["StormLog"] += "    "
	uncounted.changes--
	for name, c := range map[string]struct {
		there guestState
		right bool
	}{
		"what was told": {states[last], true}, "and one more": {next, true}, "one less": {lost, false},
		"an append twice": {twice, false}, "no row of it": {uncounted, false},
	} {
		possible := w.possible
		if err := w.match(c.there); (err == nil) != c.right {
			t.Errorf("%s: %v", name, err)
		}
		w.possible = possible
	}
}

func lastNumber(t *testing.T, lines []string) (n int) {
	t.Helper()
	if _, err := fmt.Sscanf(lines[len(lines)-1], "replay: %d", &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// String tells which write each variable is of.
func (s guestState) String() string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%d changes", s.changes)
	for _, name := range slices.Sorted(maps.Keys(s.variables)) {
		if v := s.variables[name]; len(v) >= 4 {
			fmt.Fprintf(&b, ", %s (%d bytes) ends with %d", name, len(v), binary.LittleEndian.Uint32([]byte(v[len(v)-4:])))
		}
	}
	return b.String()
}

// create makes the machine. It is not to start by itself: what is there is looked at first.
func (w *guestWrites) create(t *testing.T, port generated.Port) {
	t.Helper()
	if _, err := port.CreateDomain(t.Context(), generated.Call{}, &generated.CreateDomainRequest{
		Name: new(generated.DomainName(machineName)), DomainKind: new(generated.DomainKindQemu), MemoryMiB: new(generated.MemoryMiB(128)),
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := port.SetAttributes(t.Context(), generated.Call{Domain: machineName}, &generated.SetAttributesRequest{
		Attribute: []*generated.AttributeValue{{Name: "PowerRestorePolicy", NewValue: []string{"AlwaysOff"}}},
	}); err != nil {
		t.Fatal(err)
	}
}

func (w *guestWrites) power(t *testing.T, port generated.Port, how generated.ResetType) {
	t.Helper()
	if _, err := port.ResetSystem(t.Context(), generated.Call{Domain: machineName}, &generated.ResetSystemRequest{ResetType: &how}); err != nil {
		t.Fatal(err)
	}
}

// start switches the machine on, and waits until its storm has begun.
func (w *guestWrites) start(t *testing.T, g *guest.Guest, port generated.Port) {
	t.Helper()
	w.power(t, port, generated.ResetTypeOn)
	g.Await(t, fmt.Sprintf("replay: %d ", w.first))
}
