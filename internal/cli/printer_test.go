package cli

import (
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"biosv/generated"
)

// shown checks that printed text is fit for a terminal of a width; 0 is none.
func shown(t *testing.T, what, text string, width int) {
	t.Helper()
	if text == "" || !strings.HasSuffix(text, "\n") || strings.Contains(text, "\n\n\n") || strings.HasPrefix(text, "\n") {
		t.Errorf("%s at %d is no block of lines: %q", what, width, text)
	}
	for line := range strings.SplitSeq(text, "\n") {
		if width > 0 && utf8.RuneCountInString(line) > width {
			t.Errorf("%s is wider than %d: %q", what, width, line)
		}
		if strings.HasSuffix(line, " ") {
			t.Errorf("%s at %d: a line ends in a space: %q", what, width, line)
		}
		for _, r := range line {
			if !unicode.IsPrint(r) {
				t.Errorf("%s at %d: %q in %q", what, width, r, line)
			}
		}
	}
}

func TestEveryAnswerIsPrintedWithinTheWidthAndWithoutControlCharacters(t *testing.T) {
	t.Parallel()
	for _, c := range generated.Commands {
		f := newForm(&c)
		for _, s := range []size{minimal, maximal} {
			for _, width := range []int{0, 60, 80, 100, 132, 200} {
				p := &printer{width: width}
				p.reply(filled(f.operation.NewReply(), s).(generated.Reply), c.Table)
				shown(t, fmt.Sprint(c.Words), p.String(), width)
			}
		}
		p := &printer{}
		p.reply(f.operation.NewReply(), c.Table) // an answer that lacks all
		_ = p.String()
	}
}

// What is not named by a table is printed by nobody; what is, may be of any type.
func TestEveryTypeCanBePrintedWhole(t *testing.T) {
	t.Parallel()
	for _, m := range messages() {
		name, v, err := shapeOf(filled(m, maximal))
		if err != nil {
			t.Fatal(err)
		}
		for _, width := range []int{0, 80} {
			p := &printer{width: width}
			p.structure(name, v)
			if text := p.String(); len(generated.Types[name]) > 0 {
				shown(t, name, text, width)
			}
		}
	}
}

func TestEveryFaultIsPrintedWithItsSentenceFirst(t *testing.T) {
	t.Parallel()
	for _, f := range faults() {
		for _, width := range []int{0, 80} {
			filled(f, maximal)
			p := &printer{width: width}
			p.fault(f)
			text := p.String()
			shown(t, f.Info().Name, text, width)
			if !strings.HasPrefix(text, "biosv: 0 \\x1b[2J") || !strings.Contains(text, f.Info().Name) {
				t.Errorf("%s is printed as %q", f.Info().Name, text)
			}
		}
	}
}

func TestAnswersLookLikeThis(t *testing.T) {
	t.Parallel()
	attributes := &generated.GetAttributesReply{Attribute: []*generated.AttributeState{
		{Name: "AssetTag", CurrentValue: []string{""}, PendingValue: []string{"rack-7"}},
		{Name: "BootOrder", CurrentValue: []string{"Boot0001", "Boot0000"}},
		{Name: "AdministratorPassword"},
	}}
	thermal := &generated.GetThermalReply{Thermal: &generated.ThermalReading{
		ThermalPolicy: new(generated.ThermalPolicyQuiet), Fan: []*generated.Fan{{Name: "CPU fan", ReadingRpm: 1200}, {Name: "Rear fan", ReadingRpm: 900, ReadingPercent: new(generated.FanPercent(40))}},
	}}
	inventory := &generated.GetSystemInventoryReply{Inventory: &generated.SystemInventory{
		Model: "R2", UsableMemoryMiB: 2048, Firmware: &generated.FirmwareInventory{Vendor: "BIOS.v"},
		Memory: []*generated.MemoryInventory{{Locator: "DIMM 0", SizeMiB: 1024, SpeedMTs: 3200}, {Locator: "DIMM 1", SizeMiB: 16384}},
	}}
	for _, test := range []struct {
		name  string
		reply generated.Reply
		table string
		width int
		want  string
	}{
		{"a table", attributes, "Attribute: Name CurrentValue PendingValue", 0, `
Name                   Current value       Pending value
AssetTag               ""                  rack-7
BootOrder              Boot0001, Boot0000
AdministratorPassword
`},
		{"a table that is wrapped", attributes, "Attribute: Name CurrentValue PendingValue", 48, `
Name                   Current      Pending
                       value        value
AssetTag               ""           rack-7
BootOrder              Boot0001,
                       Boot0000
AdministratorPassword
`},
		{"a table that has no room", attributes, "Attribute: Name CurrentValue PendingValue", 32, `
Name           AssetTag
Current value  ""
Pending value  rack-7

Name           BootOrder
Current value  Boot0001,
               Boot0000

Name           AdministratorPass
               word
`},
		{"an empty table", &generated.GetAttributesReply{}, "Attribute: Name CurrentValue", 0, "\nNo attributes.\n"},
		{"an empty list", &generated.DiscardPendingAttributesReply{}, "Discarded", 0, "\nDiscarded  none\n"},
		{"two tables and a value", thermal, "Thermal.Sensor: Name; Thermal.Fan: Name ReadingRpm ReadingPercent; Thermal.ThermalPolicy", 0, `
No sensors.

Name      Reading rpm  Reading percent
CPU fan          1200
Rear fan          900               40

Thermal policy  Quiet
`},
		{"a structure", inventory, "Inventory", 0, `
Model              R2
Usable memory MiB  2048

Firmware
  Vendor  BIOS.v

Memories
  Locator  Size MiB  Speed MT/s
  DIMM 0       1024        3200
  DIMM 1      16384
`},
		{"values", &generated.GetPowerStateReply{PowerState: new(generated.PowerStateOff), AllowedResetType: []*generated.ResetType{new(generated.ResetTypeOn), new(generated.ResetTypePushPowerButton)}},
			"PowerState AllowedResetType", 0, `
Power state         Off
Allowed reset type  On, PushPowerButton
`},
		{"a document", &generated.CreateCertificateRequestReply{RequestPem: pemText}, "RequestPem", 40, "\n" + pemText},
		{"a list within a list", &generated.GetAttributeRegistryReply{Definition: []*generated.AttributeDefinition{
			{Name: "Boot", PossibleValue: []*generated.PossibleValue{{ValueName: "Uefi"}, {ValueName: "Legacy"}}},
		}}, "Definition: Name PossibleValue.ValueName", 0, "\nName  Possible value\nBoot  Uefi, Legacy\n"},
	} {
		p := &printer{width: test.width}
		p.reply(test.reply, test.table)
		if got := "\n" + p.String(); got != test.want {
			t.Errorf("%s is printed as\n%s\nwant\n%s", test.name, got, test.want)
		}
	}
}

func TestAFaultLooksLikeThis(t *testing.T) {
	t.Parallel()
	s := &service{answer: func(generated.Call, generated.Request) (generated.Reply, error) {
		return nil, &generated.InvalidAttributeFault{
			Code: "AttributesRefused", MessageId: "BiosV.1.0.AttributesRefused", Message: "2 attributes were refused; none was changed.",
			Refusal: []*generated.AttributeRefusal{
				{Name: "AssetTag", Code: "ValueLength", MessageId: "x", Message: "At most 32 characters.", RefusedValue: []string{"a, long one"}},
				{Name: "Nosuch", Code: "UnknownAttribute", MessageId: "x", Message: "There is no such attribute."},
			},
		}
	}}
	o := s.run(t, "", append([]string{"attributes", "set", "AssetTag=x"}, asked...)...)
	want := `biosv: 2 attributes were refused; none was changed.
  Fault  InvalidAttributeFault
  Code   AttributesRefused

  Name      Code              Message                      Refused value
  AssetTag  ValueLength       At most 32 characters.       a, long one
  Nosuch    UnknownAttribute  There is no such attribute.
`
	if o.code != exitInvalid || o.out != "" || o.err != want {
		t.Errorf("exit code %d, %q on standard output, and on standard error\n%s\nwant\n%s", o.code, o.out, o.err, want)
	}
}

func TestSecretsInAnswersAreNotShown(t *testing.T) {
	t.Parallel()
	for name, fields := range generated.Types {
		for _, f := range fields {
			if strings.HasSuffix(name, "Reply") && secret(f.Name) {
				t.Errorf("the contract answers with the secret %s.%s", name, f.Name)
			}
		}
	}
	f := generated.Field{Name: "NewPassword", Kind: generated.String}
	if got := show(f, reflect.ValueOf("hunter2")); got != "(not shown)" {
		t.Errorf("a password is shown as %q", got)
	}
}

func TestPlainLetsNothingThroughThatATerminalObeys(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		text      string
		multiline bool
		want      string
	}{
		{"", false, ""},
		{"plain text, über, 日本, \U0001f600", false, "plain text, über, 日本, \U0001f600"},
		{"\x1b[31mred\x1b[0m", false, `\x1b[31mred\x1b[0m`},
		{"\a\b\x00\x7f", false, `\a\b\x00\x7f`},
		{"\u009b31m", false, `\u009b31m`},
		{"a\u202eb\u2066c\u200dd\ufeff", false, `a\u202eb\u2066c\u200dd\ufeff`},
		{"bad \xff\xc3 bytes \ufffd", false, `bad \xff\xc3 bytes ` + "\ufffd"},
		{"a\tb\u00a0c", false, "a b c"},
		{"a\nb\r\nc\rd", false, `a\nb\r\nc\rd`},
		{"a\nb\r\nc\rd\x1b", true, "a\nb\nc" + `\rd\x1b`},
		{"\u2028\u2029\u0085\v\f", true, `\u2028\u2029\u0085\v\f`},
	} {
		if got := plain(test.text, test.multiline); got != test.want {
			t.Errorf("plain(%q, %t) is %q, want %q", test.text, test.multiline, got, test.want)
		}
	}
}

func FuzzPlain(f *testing.F) {
	f.Add(hostile, true)
	f.Add("\xff\u009b", false)
	f.Fuzz(func(t *testing.T, text string, multiline bool) {
		got := plain(text, multiline)
		for _, r := range got {
			if !unicode.IsPrint(r) && !(r == '\n' && multiline) {
				t.Fatalf("plain(%q) lets %q through", text, r)
			}
		}
		if again := plain(got, multiline); again != got {
			t.Fatalf("plain(%q) is %q, and of that %q", text, got, again)
		}
	})
}

func TestNamesAsPeopleReadThem(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, flag, label, plural string }{
		{"Name", "name", "Name", "Names"},
		{"CurrentValue", "current-value", "Current value", "Current values"},
		{"RequestPem", "request-pem", "Request PEM", "Request PEMs"},
		{"SystemUuid", "system-uuid", "System UUID", "System UUIDs"},
		{"Sha256", "sha256", "SHA-256", "SHA-256s"},
		{"UsableMemoryMiB", "usable-memory-mib", "Usable memory MiB", "Usable memory MiBs"},
		{"SpeedMTs", "speed-mts", "Speed MT/s", "Speed MT/s"},
		{"Dependency", "dependency", "Dependency", "Dependencies"},
		{"AdministratorPassword", "administrator-password", "Administrator password", "Administrator passwords"},
		{"", "", "", "s"},
	} {
		if f, l, p := kebab(test.name), label(test.name), plural(test.name); f != test.flag || l != test.label || p != test.plural {
			t.Errorf("%s is %q, %q and %q, want %q, %q and %q", test.name, f, l, p, test.flag, test.label, test.plural)
		}
	}
	if got := inSentence("PCR index") + inSentence("Fan"); got != "PCR indexfan" {
		t.Errorf("in a sentence: %q", got)
	}
	if got := variable("AdministratorPassword"); got != "BIOSV_ADMINISTRATOR_PASSWORD" {
		t.Errorf("the variable is %s", got)
	}
}

func TestWrap(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		text  string
		width int
		want  []string
	}{
		{"", 5, []string{""}},
		{"one two", 0, []string{"one two"}},
		{"one two", 7, []string{"one two"}},
		{"one two", 6, []string{"one", "two"}},
		{"one   two", 4, []string{"one", "two"}},
		{"abcdefgh", 3, []string{"abc", "def", "gh"}},
		{"ööööö", 3, []string{"ööö", "öö"}},
		{"a/bc/def", 5, []string{"a/bc/", "def"}},
		{"one\ntwo three", 5, []string{"one", "two", "three"}},
		{"\n", 5, []string{"", ""}},
		{"   x", 2, []string{"", "x"}},
	} {
		if got := wrap(test.text, test.width); !slices.Equal(got, test.want) {
			t.Errorf("wrap(%q, %d) is %q, want %q", test.text, test.width, got, test.want)
		}
	}
}

func TestWhatIsNoTerminalHasNoWidth(t *testing.T) {
	t.Parallel()
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if w := terminalWidth(f); w != 0 {
		t.Errorf("a file is a terminal of the width %d", w)
	}
	if w := terminalWidth(&strings.Builder{}); w != 0 {
		t.Errorf("a builder is a terminal of the width %d", w)
	}
}
