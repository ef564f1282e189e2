//go:build guest

package qemu_test

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"biosv/generated"
	"biosv/internal/guest"
	"biosv/internal/testbed"
)

// linux makes a disk with a Linux whose first process obeys the console, and with Debian's efibootmgr.
func (h *house) linux(image string) *generated.ImageName {
	h.Helper()
	tools := filepath.Join(testbed.Root, ".cache", "guest", "efibootmgr")
	entries, err := os.ReadDir(tools)
	if err != nil {
		h.Fatalf("%v; make it with: sh testdata/guest/build.sh efibootmgr", err)
	}
	files := map[string]string{}
	for _, e := range entries {
		place := "/lib/x86_64-linux-gnu/"
		switch {
		case e.Name() == "efibootmgr":
			place = "/bin/"
		case strings.HasPrefix(e.Name(), "ld-linux"):
			place = "/lib64/"
		}
		files[place+e.Name()] = filepath.Join(tools, e.Name())
	}
	initrd := filepath.Join(h.TempDir(), "initrd")
	kernel := guest.Image(h, guest.Config{Modules: []string{"efivarfs"}, Files: files}, initrd)
	return h.systemPartition(image, kernel, initrd)
}

func (m *machine) bootOptions() *generated.GetBootOptionsReply {
	m.Helper()
	reply, err := m.service.Admin(m).GetBootOptions(m.Context(), m.call(), &generated.GetBootOptionsRequest{})
	if err != nil {
		m.Fatal(err)
	}
	return reply
}

func text(r *generated.BootOptionReference) string {
	if r == nil {
		return "none"
	}
	return string(*r)
}

func (m *machine) bootOrder(order ...string) {
	m.Helper()
	r := &generated.SetBootOrderRequest{}
	for _, o := range order {
		r.BootOptionReference = append(r.BootOptionReference, new(generated.BootOptionReference(o)))
	}
	if _, err := m.service.Admin(m).SetBootOrder(m.Context(), m.call(), r); err != nil {
		m.Fatal(err)
	}
}

// override sets an override by a target, which may be an option.
func (m *machine) override(mode generated.BootOverrideMode, target string) {
	m.Helper()
	r := &generated.SetBootOverrideRequest{BootTarget: new(generated.BootTarget(target)), BootOverrideMode: &mode}
	if target == string(generated.BootTargetNone) {
		r.BootOverrideMode = nil
	} else if strings.HasPrefix(target, "Boot") {
		r.BootTarget, r.BootOptionReference = new(generated.BootTargetUefiTarget), new(generated.BootOptionReference(target))
	}
	if _, err := m.service.Admin(m).SetBootOverride(m.Context(), m.call(), r); err != nil {
		m.Fatal(err)
	}
}

// trail starts the machine, whose disks reset it so often from inside, and gives the disks that it was booted from until it
// was off.
func (m *machine) trail(resets byte) string {
	m.Helper()
	return m.trailFrom(resets, func() { m.reset(generated.ResetTypeOn) })
}

// trailFrom is the same for a machine that is started in another way.
func (m *machine) trailFrom(resets byte, start func()) string {
	m.Helper()
	m.set("Resets", []byte{resets})
	m.set("Trail", []byte(">"))
	began := time.Now()
	start()
	m.within(time.Duration(resets+1)*slow, "off", func() bool { time.Sleep(90 * time.Millisecond); return m.power() == generated.PowerStateOff })
	trail := strings.TrimPrefix(string(m.get("Trail")), ">")
	m.Logf("%s in %s", trail, time.Since(began).Round(100*time.Millisecond))
	return trail
}

// Disks a and b switch the machine off at once; from the third, Linux is started.
func TestTheBootOrderDecides(t *testing.T) {
	h := &house{T: t, images: t.TempDir()}
	var images []*generated.ImageName
	for _, name := range []string{"a", "b"} {
		images = append(images, h.systemPartition(name+".img", h.compile("testdata/esp/esp.c", t.TempDir(), name)))
	}
	images = append(images, h.linux("linux.img"))
	h.serve("")
	m := h.create("one", func(r *generated.CreateDomainRequest) {
		r.KernelImage, r.InitrdImage, r.KernelArguments, r.DiskImage = nil, nil, "", images
	})

	if got := m.bootOptions(); len(got.BootOption) > 0 {
		t.Errorf("before the first start it has %d options", len(got.BootOption))
	}
	if got := m.trail(0); got != "a" {
		t.Fatalf("the first start was from %q", got)
	}
	found := m.bootOptions()
	var disks []string
	var a, b, linux, shell, setup string
	for _, o := range found.BootOption {
		t.Logf("%s %q %t %v %s", text(o.BootOptionReference), o.DisplayName, o.BootOptionEnabled, o.BootTarget, o.UefiDevicePath)
		if o.BootTarget == nil {
			continue
		}
		switch *o.BootTarget {
		case generated.BootTargetHdd:
			disks = append(disks, o.UefiDevicePath+" "+text(o.BootOptionReference)) // in the order of the slots
		case generated.BootTargetUefiShell:
			shell = text(o.BootOptionReference)
		case generated.BootTargetBiosSetup:
			setup = text(o.BootOptionReference)
		}
	}
	slices.Sort(disks)
	if len(disks) != 3 || shell == "" || setup == "" {
		t.Fatalf("the disks are %q, the shell is %q, the setup %q", disks, shell, setup)
	}
	for i, of := range []*string{&a, &b, &linux} {
		_, *of, _ = strings.Cut(disks[i], " ")
	}
	if got := text(found.BootCurrent); got != a {
		t.Errorf("it says that it booted %s, and it was %s", got, a)
	}

	const once, always = generated.BootOverrideModeOnce, generated.BootOverrideModeContinuous
	t.Run("the order, and once another, through three resets from inside", func(t *testing.T) {
		m.bootOrder(b, a, linux)
		m.override(once, a)
		if got := m.trail(3); got != "abbb" {
			t.Errorf("it was booted from %q", got)
		}
		if got := m.bootOptions(); text(got.BootCurrent) != b || got.BootOverride != nil || got.BootNext != nil || len(got.BootOrder) < 3 || text(got.BootOrder[0]) != b || text(got.BootOrder[1]) != a {
			t.Errorf("it says %+v", got)
		}
	})
	t.Run("an override that is continuous, through a reset from inside and a start", func(t *testing.T) {
		m.override(always, a)
		if got := m.trail(1) + m.trail(0); got != "aaa" {
			t.Errorf("it was booted from %q", got)
		}
		if got := m.bootOptions().BootOverride; got == nil || text(got.BootOptionReference) != a {
			t.Errorf("the override is %+v", got)
		}
	})
	t.Run("once by class", func(t *testing.T) {
		m.bootOrder(shell, b, a, linux)
		m.override(once, string(generated.BootTargetHdd))
		if got := m.trail(0); got != "b" {
			t.Errorf("it was booted from %q", got)
		}
	})
	t.Run("once the firmware's setup", func(t *testing.T) {
		m.bootOrder(b, a, linux)
		m.override(once, string(generated.BootTargetBiosSetup))
		m.reset(generated.ResetTypeOn)
		m.within(slow, "setup", func() bool { time.Sleep(90 * time.Millisecond); return text(m.bootOptions().BootCurrent) == setup })
		if got := m.bootOptions().BootOverride; got != nil {
			t.Errorf("the override is %+v", got)
		}
		m.reset(generated.ResetTypeForceOff)
	})
	t.Run("efibootmgr inside and GetBootOptions tell the same", func(t *testing.T) {
		option := m.starts(linux, `\EFI\BOOT\BOOTX64.EFI`, `initrd=\initrd `+arguments)
		m.override(once, option)
		m.reset(generated.ResetTypeOn)
		ready(m)
		m.sameInside(t)
		order := func(list ...string) string { return strings.ReplaceAll(strings.Join(list, ","), "Boot", "") }
		m.bootOrder(a, linux, b)
		if got := m.inside()["BootOrder"]; got != order(a, linux, b) {
			t.Errorf("inside, the order is %s", got)
		}
		m.console.Do(t, "run /bin/efibootmgr -o "+order(b, a))
		if got := m.bootOptions().BootOrder; len(got) != 2 || text(got[0]) != b || text(got[1]) != a {
			t.Errorf("outside, the order is %v", got)
		}
		m.console.Do(t, "run /bin/efibootmgr -n "+order(linux))
		m.sameInside(t)
		if got := text(m.bootOptions().BootNext); got != linux {
			t.Errorf("the guest asked for %s next, and %s is", linux, got)
		}
		m.override(once, a) // which is newer
		m.sameInside(t)
		if got := m.trailFrom(1, func() { m.leave("reboot") }); got != "ab" {
			t.Errorf("then it was booted from %q", got)
		}
	})
}

// starts makes an option that starts a file of another option's disk with a command line, and gives its reference.
func (m *machine) starts(disk, file, command string) string {
	m.Helper()
	const name, active, end = "Boot0010", 1, 4
	wide := func(s string) (b []byte) {
		for _, u := range append(utf16.Encode([]rune(s)), 0) {
			b = binary.LittleEndian.AppendUint16(b, u)
		}
		return b
	}
	old := m.global(disk)
	length := int(binary.LittleEndian.Uint16(old[4:]))
	at := 6
	for old[at] != 0 || old[at+1] != 0 {
		at += 2
	}
	path := slices.Clone(old[at+2 : at+2+length-end])
	node := wide(file)
	path = append(binary.LittleEndian.AppendUint16(append(path, 4, 4), uint16(4+len(node))), node...)
	path = append(path, 0x7f, 0xff, 4, 0)
	value := binary.LittleEndian.AppendUint32(nil, active)
	value = binary.LittleEndian.AppendUint16(value, uint16(len(path)))
	value = append(append(append(value, wide("Linux")...), path...), wide(command)...)
	if _, err := m.service.Admin(m).SetVariable(m.Context(), m.call(), &generated.SetVariableRequest{Name: new(generated.VariableName(name)), VariableData: value}); err != nil {
		m.Fatal(err)
	}
	return name
}

// global gives a globally defined variable.
func (m *machine) global(name string) []byte {
	m.Helper()
	reply, err := m.service.Admin(m).GetVariable(m.Context(), m.call(), &generated.GetVariableRequest{Name: new(generated.VariableName(name))})
	if err != nil {
		m.Fatal(err)
	}
	return reply.VariableData
}

var optionLine = regexp.MustCompile(`^(Boot[0-9A-F]{4})([* ]) ([^\t]*)\t(.*)$`)

// otherWords are libefivar's, where the specification has others (UEFI 2.10, section 10.6.1.6).
var otherWords = strings.NewReplacer("FvVol(", "Fv(", `File(\EFI\BOOT\BOOTX64.EFI)`, `\EFI\BOOT\BOOTX64.EFI`)

// inside is what efibootmgr says in the guest: BootCurrent, BootNext, BootOrder and Timeout by their names, and the options.
func (m *machine) inside() map[string]string {
	m.Helper()
	said := map[string]string{}
	for _, line := range m.console.Do(m, "run /bin/efibootmgr -v") {
		line = strings.TrimPrefix(line, "| ")
		if o := optionLine.FindStringSubmatch(line); o != nil {
			said[o[1]] = o[2] + o[3] + " " + otherWords.Replace(o[4])
		} else if name, value, ok := strings.Cut(line, ": "); ok {
			said[name] = value
		}
	}
	return said
}

// sameInside holds what GetBootOptions says against what efibootmgr does, which makes text of device paths by itself.
func (m *machine) sameInside(t *testing.T) {
	t.Helper()
	outside, inside := m.bootOptions(), m.inside()
	var order []string
	for _, r := range outside.BootOrder {
		order = append(order, strings.TrimPrefix(text(r), "Boot"))
	}
	want := map[string]string{"BootCurrent": strings.TrimPrefix(text(outside.BootCurrent), "Boot"), "BootOrder": strings.Join(order, ",")}
	if outside.BootNext != nil {
		want["BootNext"] = strings.TrimPrefix(text(outside.BootNext), "Boot")
	}
	for name, value := range want {
		if inside[name] != value {
			t.Errorf("%s is %s, and inside %s", name, value, inside[name])
		}
	}
	seen := 0
	for _, o := range outside.BootOption {
		got, ok := inside[text(o.BootOptionReference)]
		if !ok || o.BootOptionHidden {
			continue
		}
		active := " "
		if o.BootOptionEnabled {
			active = "*"
		}
		seen++
		if want := active + o.DisplayName + " " + o.UefiDevicePath; !strings.HasPrefix(strings.ToUpper(got), strings.ToUpper(want)) {
			t.Errorf("%s is %q, and inside %q", text(o.BootOptionReference), want, got)
		}
	}
	if seen < 4 {
		t.Errorf("efibootmgr tells of %d options: %q", seen, inside)
	}
}
