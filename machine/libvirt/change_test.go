package libvirt

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var theirs = &parts{service: "/run/biosv", domain: "web1", rom: "/run/biosv/vbios.rom", aliases: []string{"sata0-0-0", "net0"}}

func read(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "definitions", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func parsed(t testing.TB, text string) *definition {
	t.Helper()
	d, err := parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func written(t testing.TB, d *definition) string {
	t.Helper()
	text, err := d.text()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestADefinitionIsWrittenAsItWasRead(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"virtio.xml", "bare.xml", "auto.xml"} { // in rich are metadata, whose quotes libvirt writes another way
		text := read(t, name)
		if got := written(t, parsed(t, text)); got != text {
			t.Errorf("%s: %s", name, cmp.Diff(text, got))
		}
	}
}

func TestWhatIsAttachedHasAllPartsAndGivesThemBack(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][]string{
		"virtio.xml": {"<rom file='/run/biosv/vbios.rom'/>", "<on_reboot>destroy</on_reboot>"},
		"rich.xml":   {"<rom file='/run/biosv/vbios.rom'/>", "<on_poweroff>destroy</on_poweroff>", "<on_crash>coredump-destroy</on_crash>", "<suspend-to-disk enabled='no'/>", "<app:x ", "name='rotation_rate'", "<qemu:device alias='net0'>"},
		"bare.xml":   {"{&quot;driver&quot;:&quot;pci-testdev&quot;,&quot;id&quot;:&quot;biosv-rom&quot;,&quot;romfile&quot;:&quot;/run/biosv/vbios.rom&quot;}"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			original := parsed(t, read(t, name))
			d := original.copied()
			d.attach(theirs)
			text := written(t, d)
			for _, w := range append(want, "<nvram template='/run/biosv/web1/the-hook-of-biosv-did-not-run'>/run/biosv/web1/variables.fd</nvram>") {
				if !strings.Contains(text, w) {
					t.Errorf("it has no %s:\n%s", w, text)
				}
			}
			if gone := d.missing(theirs); len(gone) > 0 {
				t.Errorf("it lacks %q", gone)
			}
			if n := len(original.missing(theirs)); n < 6 {
				t.Errorf("the original lacks %d parts only", n)
			}
			if d.unfit() == "" {
				t.Error("it could be attached twice")
			}
			if !d.detach(original, theirs) {
				t.Error("the flash was not ours")
			}
			if back := written(t, d); back != written(t, original) {
				t.Errorf("it is not what it was: %s", cmp.Diff(written(t, original), back))
			}
			if d.detach(original, theirs) || written(t, d) != written(t, original) {
				t.Errorf("given back twice: %s", written(t, d))
			}
		})
	}
}

// libvirt takes no file of variables beside a firmware that it chooses, so what it chose is named.
func TestAChoiceOfFirmwareIsLibvirtsAgain(t *testing.T) {
	t.Parallel()
	line := read(t, "auto.argv")
	for name, text := range map[string]string{
		"as libvirt 9.0 keeps it": read(t, "auto.xml"),
		"with features":           strings.Replace(read(t, "auto.xml"), "    <boot dev='hd'/>", "    <firmware>\n      <feature enabled='no' name='secure-boot'/>\n    </firmware>\n    <boot dev='hd'/>", 1),
		"with the choice beside, as later ones keep it": strings.Replace(read(t, "auto.xml"), "    <boot dev='hd'/>",
			"    <loader readonly='yes' secure='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE_4M.ms.fd</loader>\n    <nvram template='/usr/share/OVMF/OVMF_VARS_4M.ms.fd'>/var/lib/libvirt/qemu/nvram/auto_VARS.fd</nvram>\n    <boot dev='hd'/>", 1),
	} {
		original := parsed(t, text)
		d := original.copied()
		d.name(line)
		if why := d.unfit(); why != "" {
			t.Errorf("%s: %s", name, why)
		}
		if path, _ := d.flash(); path != "/var/lib/libvirt/qemu/nvram/auto_VARS.fd" {
			t.Errorf("%s: its variables are in %q", name, path)
		}
		d.attach(theirs)
		for _, want := range []string{"<os>", "<loader readonly='yes' secure='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE_4M.ms.fd</loader>", "<smm state='on'/>"} {
			if text := written(t, d); !strings.Contains(text, want) {
				t.Errorf("%s: it has no %s:\n%s", name, want, text)
			}
		}
		d.detach(original, theirs)
		if got, want := written(t, d), written(t, original); got != want {
			t.Errorf("%s: %s", name, cmp.Diff(want, got))
		}
	}
}

func TestWhatOthersChangedMeanwhileStays(t *testing.T) {
	t.Parallel()
	original := parsed(t, read(t, "virtio.xml"))
	d := original.copied()
	d.attach(theirs)
	changed := strings.NewReplacer(
		"<vcpu placement='static'>1</vcpu>", "<vcpu placement='static'>4</vcpu>", "<on_reboot>destroy</on_reboot>", "<on_reboot>preserve</on_reboot>",
		"<target type='isa-serial' port='2'/>", "<target type='isa-serial' port='2'>\n        <model name='isa-serial'/>\n      </target>", // as libvirt does
		"    <console", "    <console type='unix'>\n      <source mode='connect' path='/run/biosv/web1/vbios'/>\n    </console>\n    <console",
	).Replace(written(t, d))
	d = parsed(t, changed)
	if gone := d.missing(theirs); len(gone) > 0 {
		t.Errorf("it lacks %q", gone)
	}
	d.detach(original, theirs)
	want := strings.NewReplacer("<vcpu placement='static'>1</vcpu>", "<vcpu placement='static'>4</vcpu>", "<on_reboot>restart</on_reboot>", "<on_reboot>preserve</on_reboot>").Replace(read(t, "virtio.xml"))
	if got := written(t, d); got != want {
		t.Error(cmp.Diff(want, got))
	}
}

func TestEachPartThatIsMissingIsNamed(t *testing.T) {
	t.Parallel()
	d := parsed(t, read(t, "virtio.xml"))
	d.attach(theirs)
	whole := written(t, d)
	for old, now := range map[string]string{
		"<biosv:attached ": "<biosv:other ", "/run/biosv/web1/variables.fd": "/var/lib/own.fd", "<on_reboot>destroy": "<on_reboot>restart", "<suspend-to-mem enabled='no'/>": "<suspend-to-mem enabled='yes'/>",
		"/run/biosv/web1/vbios'": "/run/other'", "<rom file='/run/biosv/vbios.rom'/>": "", "id=biosv-events,": "id=other,",
	} {
		if got := parsed(t, strings.Replace(whole, old, now, 1)).missing(theirs); len(got) != 1 {
			t.Errorf("with %q for %q it lacks %q", now, old, got)
		}
	}
}

func TestAMachineThatCannotBeAttachedIsToldWhy(t *testing.T) {
	t.Parallel()
	virtio := read(t, "virtio.xml")
	for name, row := range map[string]struct{ text, why string }{
		"it can":                   {virtio, ""},
		"no UEFI":                  {read(t, "bios.xml"), "q35"},
		"no flash":                 {strings.Replace(virtio, "type='pflash'", "type='rom'", 1), "no UEFI firmware in flash"},
		"libvirt's choice of none": {read(t, "auto.xml"), "no UEFI firmware in flash"},
		"another architecture":     {strings.Replace(virtio, "x86_64", "aarch64", 1), "q35"},
		"another hypervisor":       {strings.Replace(virtio, "type='qemu'", "type='xen'", 1), "\"xen\""},
		"flash in another format":  {strings.Replace(virtio, "<nvram>", "<nvram format='qcow2'>", 1), "qcow2"},
		"a firmware without state": {strings.Replace(virtio, "<loader ", "<loader stateless='yes' ", 1), "keeps no variables"},
		"a serial port is taken":   {strings.Replace(virtio, "<target type='isa-serial' port='0'>", "<target type='isa-serial' port='2'>", 1), "serial port 2 is taken"},
	} {
		if why := parsed(t, row.text).unfit(); row.why == "" && why != "" || !strings.Contains(why, row.why) {
			t.Errorf("%s: %q", name, why)
		}
	}
}

func TestDevicesWithABootIndexAreRead(t *testing.T) {
	t.Parallel()
	rich := parsed(t, read(t, "rich.xml"))
	if got, want := append(bootIndexed(read(t, "rich.argv")), rich.bootInterfaces()...), []string{"sata0-0-0", "net0"}; !cmp.Equal(got, want) {
		t.Errorf("they are %q, not %q", got, want)
	}
	virtio := read(t, "virtio.xml")
	if got := parsed(t, virtio).bootInterfaces(); got != nil {
		t.Errorf("they are %q", got)
	}
	if got := parsed(t, strings.Replace(virtio, "<boot dev='hd'/>", "<boot dev='network'/>", 1)).bootInterfaces(); !cmp.Equal(got, []string{"net0"}) {
		t.Errorf("they are %q", got)
	}
	if got := bootIndexed(`-device '{"driver":"x","id":"a'\''b","bootindex":3}' -device virtio,id=c,bootindex=1 -device '{"id":"d"}' -device '{'`); !cmp.Equal(got, []string{"a'b"}) {
		t.Errorf("they are %q", got)
	}
}

func TestWhatIsNoDefinitionIsRefused(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "x", "<network/>", "<domain>", "<domain/><domain/>", strings.Repeat(" ", mostDefinition) + "<domain/>"} {
		if _, err := parse(text); err == nil {
			t.Errorf("%.20q was read", text)
		}
	}
}

// A definition is libvirt's, but what is in it is everybody's who may define machines.
func FuzzDefinition(f *testing.F) {
	for _, name := range []string{"virtio.xml", "rich.xml", "bare.xml", "auto.xml", "bios.xml"} {
		f.Add(read(f, name))
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := parse(text)
		if err != nil || d.unfit() != "" {
			return
		}
		original := d.copied()
		d.attach(theirs)
		if gone := d.missing(theirs); len(gone) > 0 {
			t.Errorf("it lacks %q", gone)
		}
		if !d.detach(original, theirs) {
			t.Error("the flash was not ours")
		}
		_ = d.memory() + d.processors()
		_ = d.addresses()
	})
}
