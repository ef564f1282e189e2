package boot_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"biosv/generated"
	"biosv/security"
)

// shows is the override in force, as [bench.set] says it.
func (b *bench) shows() string {
	b.Helper()
	o := b.options().BootOverride
	if o == nil {
		return "-"
	}
	mode, target := map[generated.BootOverrideMode]string{generated.BootOverrideModeOnce: "once ", generated.BootOverrideModeContinuous: "always "}[*o.BootOverrideMode], string(*o.BootTarget)
	if (o.BootOptionReference != nil) != (*o.BootTarget == generated.BootTargetUefiTarget) {
		b.Fatalf("the override is %+v", o)
	}
	if o.BootOptionReference != nil {
		target = string(*o.BootOptionReference)
	}
	return mode + target
}

func (b *bench) next() string {
	b.Helper()
	v := b.value("BootNext")
	if len(v) != 2 {
		return "-"
	}
	return fmt.Sprintf("Boot%04X", binary.LittleEndian.Uint16(v))
}

func (b *bench) wantsSetup() bool {
	b.Helper()
	v := b.value("OsIndications")
	return len(v) == 8 && v[0]&1 != 0
}

// warned counts the warnings of the event log.
func (b *bench) warned() (n int) {
	b.Helper()
	for _, e := range b.Events("demo") {
		if e.MessageId == "BiosV.1.0.BootOverrideNotFollowed" {
			n++
		}
	}
	return n
}

func numberOf(option string) []byte {
	var n uint16
	_, _ = fmt.Sscanf(option, "Boot%04X", &n)
	return binary.LittleEndian.AppendUint16(nil, n)
}

// step does one, of a history that is told in words:
//
//	once T, always T, clear   an operator sets the override
//	begin N                   a boot begins, with N as its BootNext, or - for none; "setup" for the firmware's setup
//	boots N                   firmware uses what it was given, and starts N
//	fails                     the machine could not be started: firmware did nothing
//	guest N, guest setup      the operating system sets BootNext, or the wish for the firmware's setup
//	forgets                   the operating system deletes BootNext
//	next N                    what BootNext is
//	shows T                   what GetBootOptions tells
//	warned N                  how many warnings the event log has
//	deleted N, made N         an option goes and comes
func (b *bench) step(s string) error {
	b.Helper()
	word, rest, _ := strings.Cut(s, " ")
	switch word {
	case "once", "always", "clear":
		return b.set(s)
	case "begin":
		b.begin()
		got := b.next()
		if b.wantsSetup() {
			got = "setup"
		}
		if got != rest {
			return fmt.Errorf("it begins with %s", got)
		}
	case "boots":
		if b.wantsSetup() {
			b.firmware("OsIndications", make([]byte, 8))
		} else if b.next() != "-" {
			b.firmware("BootNext", nil)
		}
		b.firmware("BootCurrent", numberOf(rest))
	case "fails":
	case "guest":
		if rest == "setup" {
			b.system("OsIndications", []byte{1, 0, 0, 0, 0, 0, 0, 0})
		} else {
			b.system("BootNext", numberOf(rest))
		}
	case "forgets":
		b.system("BootNext", nil)
	case "next":
		if got := b.next(); got != rest {
			return fmt.Errorf("BootNext is %s", got)
		}
	case "shows":
		if got := b.shows(); got != rest {
			return fmt.Errorf("it shows %s", got)
		}
	case "warned":
		if got := fmt.Sprint(b.warned()); got != rest {
			return fmt.Errorf("it warned %s times", got)
		}
	case "deleted":
		b.system(rest, nil)
	case "made":
		b.system(rest, loadOption(1, "again", root+disk+"\x07"+end))
	default:
		return fmt.Errorf("it is no step")
	}
	return nil
}

func TestOverrides(t *testing.T) {
	t.Parallel()
	for name, history := range map[string]string{
		"none":                "shows -; begin -; boots Boot0002; begin -",
		"once by option":      "once Boot0001; shows once Boot0001; begin Boot0001; boots Boot0001; shows -; begin -",
		"is BootNext at once": "boots Boot0002; once Boot0001; next Boot0001; shows once Boot0001; begin Boot0001; boots Boot0001; next -; shows -; begin -",
		"but not what a boot under way takes for its own": "once Boot0002; begin Boot0002; once Boot0001; next -; shows once Boot0001; boots Boot0002; shows once Boot0001; begin Boot0001; boots Boot0001; shows -; begin -",
		"nor is setup": "boots Boot0002; once BiosSetup; begin setup; once BiosSetup; boots Boot0000; shows once BiosSetup; begin setup; boots Boot0000; begin -",
		"once by class is the first of the order":           "once Hdd; shows once Hdd; begin Boot0002; shows once Hdd; boots Boot0002; shows -; begin -; boots Boot0002; begin -",
		"a start that fails does not use it up":             "once Hdd; begin Boot0002; fails; shows once Hdd; begin Boot0002; fails; begin Boot0002; boots Boot0002; shows -; begin -",
		"nor one by option":                                 "boots Boot0002; once Boot0001; begin Boot0001; fails; begin Boot0001; boots Boot0001; begin -",
		"always holds":                                      "always Boot0001; begin Boot0001; boots Boot0001; shows always Boot0001; begin Boot0001; boots Boot0001; begin Boot0001; clear; shows -; begin -",
		"always by class follows the options":               "always Hdd; begin Boot0002; boots Boot0002; deleted Boot0002; begin Boot0001; boots Boot0001; made Boot0002; begin Boot0002",
		"also when what was made of it was not used":        "always Hdd; begin Boot0002; fails; deleted Boot0002; begin Boot0001",
		"once takes the place of always":                    "always Boot0001; once Boot0002; shows once Boot0002; begin Boot0002; boots Boot0002; shows -; begin -",
		"always takes the place of once":                    "once Boot0001; always Boot0002; shows always Boot0002; begin Boot0002; boots Boot0002; begin Boot0002",
		"an override that is cleared is gone":               "once Hdd; begin Boot0002; clear; shows -; begin -",
		"the guest's BootNext is an override":               "guest Boot0001; shows once Boot0001; begin Boot0001; boots Boot0001; shows -",
		"which an operator clears":                          "guest Boot0001; clear; shows -; begin -",
		"the guest's is newer than once":                    "once Hdd; guest Boot0001; shows once Hdd; begin Boot0001; shows once Boot0001; boots Boot0001; begin -",
		"and decides one boot of always":                    "always Boot0002; begin Boot0002; boots Boot0002; guest Boot0001; shows always Boot0002; begin Boot0001; boots Boot0001; shows always Boot0002; begin Boot0002",
		"even if it is the same option":                     "always Hdd; begin Boot0002; boots Boot0002; guest Boot0002; deleted Boot0002; begin Boot0002; boots Boot0001; begin Boot0001",
		"an operator's is newer than the guest's":           "guest Boot0001; once Hdd; shows once Hdd; begin Boot0002; boots Boot0002; begin -",
		"a guest that forgets BootNext takes it back":       "boots Boot0002; once Boot0001; forgets; shows -; begin -",
		"an option that is deleted is not booted":           "always Boot0001; deleted Boot0001; begin -; warned 1; boots Boot0002; begin -; warned 2; made Boot0001; begin Boot0001; warned 2",
		"once without an option of its class is used up":    "deleted Boot0001; deleted Boot0002; once Hdd; begin -; warned 1; shows once Hdd; boots Boot0003; shows -; made Boot0001; begin -; warned 1",
		"unless the start failed":                           "deleted Boot0001; deleted Boot0002; once Hdd; begin -; fails; made Boot0001; begin Boot0001; boots Boot0001; begin -",
		"an option that is not active is in no class":       "once UefiShell; begin -; warned 1",
		"but can be named":                                  "once Boot0003; begin Boot0003",
		"setup once":                                        "boots Boot0002; once BiosSetup; shows once BiosSetup; begin setup; fails; begin setup; boots Boot0000; shows -; begin -",
		"setup always":                                      "always BiosSetup; shows always BiosSetup; begin setup; boots Boot0000; shows always BiosSetup; begin setup; clear; begin -",
		"the guest's wish for setup":                        "guest setup; shows once BiosSetup; begin setup; boots Boot0000; shows -",
		"decides one boot of always":                        "always Boot0001; begin Boot0001; boots Boot0001; guest setup; begin setup; boots Boot0000; begin Boot0001",
		"is cleared with the rest":                          "guest setup; clear; begin -",
		"and the guest's BootNext decides one of setup":     "always BiosSetup; begin setup; boots Boot0000; guest Boot0001; begin Boot0001; boots Boot0001; begin setup",
		"BootCurrent of before is not of the boot to come":  "begin -; boots Boot0002; once Hdd; begin Boot0002; fails; shows once Hdd; begin Boot0002",
		"once is used up also where its option then failed": "once Boot0001; begin Boot0001; boots Boot0001; boots Boot0002; begin -",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := furnish(t)
			for i, s := range strings.Split(history, "; ") {
				if err := b.step(s); err != nil {
					t.Fatalf("step %d of %q, %s: %v", i+1, history, s, err)
				}
			}
		})
	}
}

func TestSettingAnOverrideKeepsTheOtherIndications(t *testing.T) {
	t.Parallel()
	b := furnish(t)
	b.firmware("BootCurrent", numberOf("Boot0002"))
	b.system("OsIndications", []byte{4, 0, 0, 0, 0, 0, 0, 0x80})
	for _, how := range []string{"once BiosSetup", "clear"} {
		if err := b.set(how); err != nil {
			t.Fatal(err)
		}
		want := []byte{4, 0, 0, 0, 0, 0, 0, 0x80}
		if how != "clear" {
			want[0] |= 1
		}
		if got := b.value("OsIndications"); !bytes.Equal(got, want) {
			t.Errorf("%s: OsIndications is %x", how, got)
		}
	}
}

func TestTheEventLogTellsOfOverrides(t *testing.T) {
	t.Parallel()
	b := furnish(t)
	n := len(b.Events("demo"))
	for _, s := range []string{"always Hdd", "always Hdd", "begin Boot0002", "once Boot0001", "once Hdd", "guest Boot0002", "begin Boot0002"} {
		if err := b.step(s); err != nil {
			t.Fatal(err)
		}
	}
	var told []string
	for _, e := range b.Events("demo")[n:] {
		text := strings.TrimPrefix(e.MessageId, "BiosV.1.0.")
		for _, c := range e.Change {
			text += fmt.Sprintf(" %s: %s > %s", c.Name, c.OldValue, c.NewValue)
		}
		told = append(told, text)
	}
	want := []string{
		"BootOverrideChanged BootOverride:  > Continuous Hdd", "BootOverrideApplied",
		"BootOverrideChanged BootOverride: Continuous Hdd > Once Boot0001", "BootOverrideChanged BootOverride: Once Boot0001 > Once Hdd",
		"VariableSet BootNext-8be4df61-93ca-11d2-aa0d-00e098032b8c:  > 0200", "BootOverrideReplaced BootOverride: Once Hdd > ",
	}
	if !slices.Equal(told, want) {
		t.Errorf("it tells %q, not %q", told, want)
	}
}

func TestSetBootOverrideRefuses(t *testing.T) {
	t.Parallel()
	b := furnish(t)
	stale := b.Version("demo") - 1
	for name, row := range map[string]struct {
		r    generated.SetBootOverrideRequest
		want string
	}{
		"an option that is not there":    {generated.SetBootOverrideRequest{BootTarget: new(generated.BootTargetUefiTarget), BootOptionReference: reference("Boot0009")}, "UnknownBootOption /SetBootOverride/BootOptionReference"},
		"an option that is not named":    {generated.SetBootOverrideRequest{BootTarget: new(generated.BootTargetUefiTarget)}, "InvalidValue /SetBootOverride/BootOptionReference"},
		"an option and a class":          {generated.SetBootOverrideRequest{BootTarget: new(generated.BootTargetHdd), BootOptionReference: reference("Boot0001")}, "InvalidValue /SetBootOverride/BootOptionReference"},
		"a mode of nothing":              {generated.SetBootOverrideRequest{BootTarget: new(generated.BootTargetNone), BootOverrideMode: new(generated.BootOverrideModeOnce)}, "InvalidValue /SetBootOverride/BootOverrideMode"},
		"what the machine cannot have":   {generated.SetBootOverrideRequest{BootTarget: new(generated.BootTargetPxe)}, "NotSupportedByMachine"},
		"what was decided by old values": {generated.SetBootOverrideRequest{BootTarget: new(generated.BootTargetHdd), Version: &stale}, "StaleVersion"},
	} {
		if _, err := b.f.SetBootOverride(t.Context(), b.call, &row.r); refusal(err) != row.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	b.Fake("demo").BootsFrom()
	for _, how := range []string{"once Hdd", "once Boot0001"} {
		if got := refusal(b.set(how)); got != "NotSupportedByMachine" {
			t.Errorf("%s, where it is given a kernel: %s", how, got)
		}
	}
	if err := b.set("clear"); err != nil {
		t.Error(err)
	}
	if got := b.shows(); got != "-" {
		t.Errorf("it shows %s", got)
	}
}

// A guest that fills the storage keeps its machine from following an override, and not from starting.
func TestAMachineStartsAlsoWhereThereIsNoRoomForBootNext(t *testing.T) {
	t.Parallel()
	b := furnish(t)
	if err := b.set("always Hdd"); err != nil {
		t.Fatal(err)
	}
	for size := 60_000; size > 0; {
		if err := b.guest(security.PhaseOperatingSystem, fmt.Sprintf("Boot%04X", 0x1000+size), loadOption(1, strings.Repeat("x", size/2), end)); err != nil {
			size /= 2
		} else {
			size-- // another name
		}
	}
	if err := b.step("begin -"); err != nil {
		t.Fatal(err)
	}
	if err := b.step("warned 1"); err != nil {
		t.Error(err)
	}
	b.firmware("BootCurrent", []byte{2, 0})
	b.system(fmt.Sprintf("Boot%04X", 0x1000+60_000), nil)
	for _, s := range []string{"shows always Hdd", "begin Boot0002"} {
		if err := b.step(s); err != nil {
			t.Error(err)
		}
	}
}
