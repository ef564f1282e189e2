package attribute_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"biosv/fault"
	"biosv/generated"
	"biosv/smm"
)

func TestValuesAreJudgedByTheirDefinition(t *testing.T) {
	t.Parallel()
	list := func(v ...string) []string { return v }
	for _, tt := range []struct {
		name  string
		value []string
		want  string // the code of a refusal, or "=" and the value as it is kept
	}{
		{"AssetTag", list("rack <7> &"), "=rack <7> &"},
		{"AssetTag", list("éééééééééé"), "=éééééééééé"}, // 10 characters, 20 bytes
		{"AssetTag", list("ééééééééééé"), "ValueLength"},
		{"AssetTag", list(" \t\r\n"), "= \t\r\n"},
		{"AssetTag", list("a\x00"), "ValueFormat"},
		{"AssetTag", list("a\uFFFF"), "ValueFormat"},
		{"AssetTag", list("a\xff"), "ValueFormat"},
		{"AssetTag", list("\U0001f600"), "=\U0001f600"},
		{"AssetTag", nil, "ValueCount"},
		{"AssetTag", list("a", "b"), "ValueCount"},
		{"Location", list("x"), "ValueLength"},
		{"Location", list("xxxxxxx"), "ValueLength"},
		{"Location", list("rack"), "=rack"},
		{"Location", list("日本"), "=日本"},
		{"Location", list("rack1"), "ValuePattern"}, // the expression is for the whole text,
		{"Location", list("日本a"), "ValuePattern"},   // and each of its alternatives too
		{"Location", list("rack\n"), "ValuePattern"},
		{"Notes", list(strings.Repeat("n", 4096)), "=" + strings.Repeat("n", 4096)},
		{"Notes", list(strings.Repeat("n", 4097)), "ValueLength"},
		{"FanPercent", list("20"), "=20"},
		{"FanPercent", list("100"), "=100"},
		{"FanPercent", list("+0025"), "=25"},
		{"FanPercent", list("15"), "ValueOutOfRange"},
		{"FanPercent", list("105"), "ValueOutOfRange"},
		{"FanPercent", list("22"), "ValueOffStep"},
		{"FanPercent", list("99999999999999999999"), "ValueFormat"},
		{"FanPercent", list("25 "), "ValueFormat"},
		{"FanPercent", list("0x19"), "ValueFormat"},
		{"FanPercent", list("2_5"), "ValueFormat"},
		{"FanPercent", list("25.0"), "ValueFormat"},
		{"FanPercent", list(""), "ValueFormat"},
		{"FanPercent", list("25", "30"), "ValueCount"},
		{"Offset", list("-9223372036854775808"), "=-9223372036854775808"},
		{"Offset", list("9223372036854775802"), "=9223372036854775802"}, // the step counts over the whole range
		{"Offset", list("9223372036854775806"), "ValueOffStep"},
		{"Delay", list("-0"), "=0"},
		{"Bias", list("-9"), "=-9"}, // without a lower bound, steps are counted from 0
		{"Bias", list("-8"), "ValueOffStep"},
		{"Quiet", list("true"), "=true"},
		{"Quiet", list("1"), "=true"},
		{"Quiet", list("0"), "=false"},
		{"Quiet", list("True"), "ValueFormat"},
		{"Quiet", list("yes"), "ValueFormat"},
		{"Quiet", nil, "ValueCount"},
		{"ThermalPolicy", list("Quiet"), "=Quiet"},
		{"ThermalPolicy", list("quiet"), "ValueNotInList"},
		{"ThermalPolicy", list(""), "ValueNotInList"},
		{"ThermalPolicy", list("Quiet", "Balanced"), "ValueCount"},
		{"Alerts", nil, "="},
		{"Alerts", list("syslog", "mail"), "=syslog,mail"},
		{"Alerts", list("syslog", "fax"), "ValueNotInList"},
		{"Alerts", list("syslog", "syslog"), "DuplicateItem"},
		{"Load", list("Full"), "=Full"}, // hidden is not read-only
		{"Serial", list("S-1"), "ReadOnlyAttribute"},
		{"Uuid", list("u-1"), "ImmutableAttribute"},
		{"AdministratorSecret", list("abc"), "ValueLength"},
		{"AdministratorSecret", list(strings.Repeat("a", 21)), "ValueLength"},
		{"AdministratorSecret", list(""), "="}, // which takes it away, whatever its least length
		{"AdministratorSecret", nil, "ValueCount"},
		{"Nothing", list("x"), "UnknownAttribute"},
		{"", list("x"), "UnknownAttribute"},
	} {
		t.Run(fmt.Sprintf("%s/%.20q", tt.name, tt.value), func(t *testing.T) {
			t.Parallel()
			b := newBIOS(t, testRegistry())
			if tt.name == "FanPercent" {
				b.set(value("ThermalPolicy", "Custom"))
			}
			err := b.try(value(tt.name, tt.value...))
			if kept, ok := strings.CutPrefix(tt.want, "="); ok {
				must(t, err)
				equal(t, tt.name, b.state(tt.name), kept)
				return
			}
			equal(t, "refusals", refusals(t, err), []string{tt.name + " " + tt.want})
			var f *generated.InvalidAttributeFault
			if errors.As(err, &f) {
				wanted := tt.value
				if tt.want == "UnknownAttribute" || strings.HasSuffix(tt.name, "Secret") {
					wanted = nil // what may be secret is not told
				} else if tt.want == "ValueLength" && tt.name == "Notes" {
					wanted = []string{strings.Repeat("n", 255) + "…"}
				}
				equal(t, "the value refused", f.Refusal[0].RefusedValue, wanted)
			}
		})
	}
}

func TestARefusalNamesEveryWrongAttributeAndChangesNone(t *testing.T) {
	t.Parallel()
	b := newBIOS(t, testRegistry())
	b.set(value("ThermalPolicy", "Custom"))
	before, version, lines := b.all(), b.version(), len(b.eventLines())
	given := len(b.machine.configured)
	_, err := b.request(&generated.SetAttributesRequest{ApplyTime: new(generated.ApplyTimeImmediate), Attribute: []*generated.AttributeValue{
		value("AssetTag", "good"),
		value("Quiet", "perhaps"),
		value("BootMode", "Legacy"),
		value("Alerts", "mail", "mail"),
		value("Nothing", "secret"),
		value("AssetTag", "again"),
		value("FanPercent", "21"),
		value("Location", "good"),
		value("Nothing", "secret"),
	}})
	equal(t, "refusals", refusals(t, err), []string{
		"Quiet ValueFormat", "BootMode ApplyTimeNotSupported", "Alerts DuplicateItem", "Nothing UnknownAttribute", "AssetTag DuplicateItem",
		"FanPercent ValueOffStep", "Nothing UnknownAttribute",
	})
	var f *generated.InvalidAttributeFault
	if errors.As(err, &f) {
		equal(t, "the element at fault", f.ElementPath, "/SetAttributes/Attribute[2]")
		equal(t, "the code", f.Code, "AttributesRefused")
	}
	equal(t, "attributes", b.all(), before)
	equal(t, "version", b.version(), version)
	equal(t, "events", len(b.eventLines()), lines)
	equal(t, "settings given to the machine", len(b.machine.configured), given)
}

func TestOneWrongOfThreeChangesNothing(t *testing.T) {
	t.Parallel()
	good := []*generated.AttributeValue{value("AssetTag", "a"), value("BootMode", "Http"), value("Quiet", "true")}
	for i, bad := range []*generated.AttributeValue{value("AssetTag", "01234567890"), value("BootMode", "http"), value("Quiet")} {
		b := newBIOS(t, testRegistry())
		before := b.all()
		request := slices.Clone(good)
		request[i] = bad
		equal(t, "refusals", len(refusals(t, b.try(request...))), 1)
		equal(t, "attributes", b.all(), before)
		b.set(good...)
		equal(t, "attributes after the right ones", b.state("AssetTag")+b.state("BootMode")+b.state("Quiet"), "aUefi→Httptrue")
	}
}

func TestDependenciesAreJudgedByTheStateAfterTheRequest(t *testing.T) {
	t.Parallel()
	type values = []*generated.AttributeValue
	for _, tt := range []struct {
		what    string
		before  values
		request values
		refused []string
	}{
		{"read-only by a default", nil, values{value("FanPercent", "50")}, []string{"FanPercent ReadOnlyAttribute"}},
		{"made writable before it", nil, values{value("ThermalPolicy", "Custom"), value("FanPercent", "50")}, nil},
		{"made writable after it", nil, values{value("FanPercent", "50"), value("ThermalPolicy", "Custom")}, nil},
		{"made read-only before it", values{value("ThermalPolicy", "Custom")}, values{value("ThermalPolicy", "Quiet"), value("FanPercent", "50")}, []string{"FanPercent ReadOnlyAttribute"}},
		{"made read-only after it", values{value("ThermalPolicy", "Custom")}, values{value("FanPercent", "50"), value("ThermalPolicy", "Quiet")}, []string{"FanPercent ReadOnlyAttribute"}},
		{"hidden by a pending value", values{value("BootMode", "Http")}, values{value("Delay", "5")}, []string{"Delay HiddenAttribute"}},
		{"shown again in the request", values{value("BootMode", "Http")}, values{value("Delay", "5"), value("BootMode", "Uefi")}, nil},
		{"limited", values{value("BootOrder", "disk"), value("BootMode", "Legacy")}, values{value("BootOrder", "usb", "net")}, []string{"BootOrder ValueLimitedByDependency"}},
		{"within the limit", values{value("BootOrder", "disk"), value("BootMode", "Legacy")}, values{value("BootOrder", "usb", "disk")}, nil},
		{"a list that is empty breaks no limit", values{value("BootOrder", "disk"), value("BootMode", "Legacy")}, values{value("BootOrder")}, nil},
		{"limited by the same request", nil, values{value("BootMode", "Legacy"), value("BootOrder", "net")}, []string{"BootOrder ValueLimitedByDependency"}},
		{"a limit that another attribute does not keep", nil, values{value("AssetTag", "x"), value("BootMode", "Legacy")}, []string{"BootMode ValueLimitedByDependency"}},
		{"a limit that the request makes another keep", nil, values{value("BootMode", "Legacy"), value("BootOrder", "usb")}, nil},
		{"the same in the other order", nil, values{value("BootOrder", "usb"), value("BootMode", "Legacy")}, nil},
		{"a limit lifted with the value", values{value("BootOrder", "usb"), value("BootMode", "Legacy")}, values{value("BootOrder", "net"), value("BootMode", "Uefi")}, nil},
		{"a value spelt otherwise in the dependency", nil, values{value("Quiet", "true"), value("Alerts", "snmp")}, []string{"Alerts ValueLimitedByDependency"}},
		{"a value of a list", values{value("Alerts", "syslog", "mail")}, values{value("Notes", "x")}, []string{"Notes ReadOnlyAttribute"}},
		{"no value of a list", values{value("Alerts", "syslog")}, values{value("Notes", "x")}, nil},
		{"a password", values{value("Tpm", "false")}, values{value("StartSecret", "x")}, []string{"StartSecret ReadOnlyAttribute"}},
		{"both sides wrong", nil, values{value("FanPercent", "50"), value("ThermalPolicy", "Loud")}, []string{"FanPercent ReadOnlyAttribute", "ThermalPolicy ValueNotInList"}},
	} {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			b := newBIOS(t, testRegistry())
			if tt.before != nil {
				b.set(tt.before...)
			}
			before := b.all()
			err := b.try(tt.request...)
			if tt.refused == nil {
				must(t, err)
				return
			}
			equal(t, "refusals", refusals(t, err), tt.refused)
			equal(t, "attributes", b.all(), before)
		})
	}
}

func TestApplyTimes(t *testing.T) {
	t.Parallel()
	immediate, onReset := new(generated.ApplyTimeImmediate), new(generated.ApplyTimeOnReset)
	for _, tt := range []struct {
		what  string
		when  *generated.ApplyTime
		value *generated.AttributeValue
		want  string // the state, or the code of a refusal
	}{
		{"at once where possible", nil, value("Quiet", "true"), "true"},
		{"on reset where needed", nil, value("BootMode", "Http"), "Uefi→Http"},
		{"immediate", immediate, value("Quiet", "true"), "true"},
		{"immediate where a reset is needed", immediate, value("BootMode", "Http"), "ApplyTimeNotSupported"},
		{"immediate where a reset is needed, and nothing changes", immediate, value("BootMode", "Uefi"), "ApplyTimeNotSupported"},
		{"on reset where it could be at once", onReset, value("Quiet", "true"), "false→true"},
		{"on reset", onReset, value("BootOrder"), "disk,net→"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			b := newBIOS(t, testRegistry())
			_, err := b.request(&generated.SetAttributesRequest{Attribute: []*generated.AttributeValue{tt.value}, ApplyTime: tt.when})
			if err != nil {
				equal(t, "refusals", refusals(t, err), []string{tt.value.Name + " " + tt.want})
				return
			}
			equal(t, tt.value.Name, b.state(tt.value.Name), tt.want)
		})
	}
}

func TestAChangeIsOneEventOneVersionAndTheMachinesSettings(t *testing.T) {
	t.Parallel()
	b := newBIOS(t, testRegistry())
	first := b.version()
	reply, err := b.request(&generated.SetAttributesRequest{Attribute: []*generated.AttributeValue{
		value("BootOrder", "usb", "net"), value("AssetTag", "tag"), value("Alerts", "syslog", "snmp"), value("Delay", "0"),
	}})
	must(t, err)
	equal(t, "version", *reply.Version, first+1)
	var states []string
	for _, s := range reply.AttributeState {
		states = append(states, s.Name+"="+told(s))
	}
	equal(t, "the answer", states, []string{"BootOrder=disk,net→usb,net", "AssetTag=tag", "Alerts=syslog,snmp", "Delay=0"})
	equal(t, "settings given to the machine", b.machine.last(t), smm.Settings{"AssetTag": {"tag"}, "Alerts": {"syslog", "snmp"}})
	equal(t, "events", b.eventLines(), []string{"AttributesChanged BootOrder:disk, net>usb, net AssetTag:>tag Alerts:>syslog, snmp"})

	b.setOnReset(value("Load", "Full"))
	b.set(value("Load", "Idle"))
	b.set(value("AssetTag", ""))
	equal(t, "settings without a value that is the default again", b.machine.last(t), smm.Settings{"Alerts": {"syslog", "snmp"}})
	equal(t, "events", b.eventLines()[1:], []string{"AttributesPending Load:Idle>Full", "AttributesPending Load:Full>Idle", "AttributesChanged AssetTag:tag>"})
	equal(t, "version", b.version(), first+4)
	equal(t, "settings given", len(b.machine.configured), 2)
}

func TestWhatChangesNothingRaisesNoVersion(t *testing.T) {
	t.Parallel()
	b := newBIOS(t, testRegistry())
	b.set(value("AssetTag", "tag"), value("BootMode", "Http"))
	version, lines, given := b.version(), b.eventLines(), len(b.machine.configured)
	for _, request := range [][]*generated.AttributeValue{
		{value("AssetTag", "tag")}, {value("BootMode", "Http")}, {value("Quiet", "0")}, {value("BootOrder", "disk", "net")}, {value("AdministratorSecret", "")},
	} {
		reply, err := b.request(&generated.SetAttributesRequest{Attribute: request})
		must(t, err)
		equal(t, "version", *reply.Version, version)
	}
	equal(t, "events", b.eventLines(), lines)
	equal(t, "settings given", len(b.machine.configured), given)
}

func TestAStaleVersionIsRefused(t *testing.T) {
	t.Parallel()
	b := newBIOS(t, testRegistry())
	read := b.version()
	_, err := b.request(&generated.SetAttributesRequest{Version: &read, Attribute: []*generated.AttributeValue{value("AssetTag", "first")}})
	must(t, err)
	for what, ask := range map[string]func() error{
		"SetAttributes, at once": func() error {
			_, err := b.request(&generated.SetAttributesRequest{Version: &read, Attribute: []*generated.AttributeValue{value("AssetTag", "late")}})
			return err
		},
		"SetAttributes, pending": func() error {
			_, err := b.request(&generated.SetAttributesRequest{Version: &read, Attribute: []*generated.AttributeValue{value("Delay", "1")}})
			return err
		},
		"DiscardPendingAttributes": func() error {
			_, err := b.DiscardPendingAttributes(t.Context(), b.call(), &generated.DiscardPendingAttributesRequest{Version: &read})
			return err
		},
		"ResetAttributes": func() error {
			_, err := b.ResetAttributes(t.Context(), b.call(), &generated.ResetAttributesRequest{Version: &read, DefaultSet: new(generated.DefaultSetFactory)})
			return err
		},
		"SaveDefaultAttributes": func() error {
			_, err := b.SaveDefaultAttributes(t.Context(), b.call(), &generated.SaveDefaultAttributesRequest{Version: &read})
			return err
		},
	} {
		err := ask()
		wantCode(t, what, err, fault.StaleVersion)
		var f *generated.ConflictFault
		if errors.As(err, &f) {
			equal(t, "the version that the fault tells", *f.CurrentVersion, read+1)
		}
	}
	equal(t, "AssetTag", b.state("AssetTag"), "first")
}

func TestWhatTheMachineDoesNotTakeIsNotKept(t *testing.T) {
	t.Parallel()
	b := newBIOS(t, testRegistry())
	b.machine.onConfigure(func() error { return fault.Unavailable(fault.NotByThisMachine, 0, "no fans") })
	wantCode(t, "a machine that refuses", b.try(value("Quiet", "true"), value("BootMode", "Http")), fault.NotByThisMachine)
	equal(t, "Quiet", b.state("Quiet"), "false")
	equal(t, "BootMode", b.state("BootMode"), "Uefi")
	equal(t, "events", b.eventLines(), []string{"OperationFailed"})
	b.set(value("BootMode", "Http")) // for which the machine is not asked
	b.machine.onConfigure(nil)
	b.set(value("Quiet", "true"))
	equal(t, "Quiet", b.state("Quiet"), "true")
}

// A machine may start by itself while it is given a value: what waited for the start and what was given must both
// be in force in the end.
func TestAStartDuringAChangeLosesNothing(t *testing.T) {
	t.Parallel()
	b := newBIOS(t, testRegistry())
	b.setOnReset(value("AssetTag", "waited"))
	b.set(value("BootMode", "Http"))
	once := sync.Once{}
	b.machine.onConfigure(func() error { once.Do(func() { b.start() }); return nil })
	b.set(value("Quiet", "true"))
	want := smm.Settings{"AssetTag": {"waited"}, "BootMode": {"Http"}, "Quiet": {"true"}}
	equal(t, "what the machine has", b.machine.last(t), want)
	equal(t, "what the next start gives", b.start(), want)
	equal(t, "events", b.eventLines()[2:], []string{"AttributesApplied AssetTag:>waited BootMode:Uefi>Http", "AttributesChanged Quiet:false>true"})
}

// A request that is planned without the machine may need it when its turn has come.
func TestAChangeBetweenPlanAndTurnIsAConflict(t *testing.T) {
	t.Parallel()
	b := newBIOS(t, testRegistry())
	b.onTransaction(2, func() {
		done := make(chan struct{})
		go func() { // as another request: this one reads the state as it was before
			defer close(done)
			if err := b.try(value("AssetTag", "theirs")); err != nil {
				t.Error(err)
			}
		}()
		<-done
	})
	err := b.try(value("AssetTag", ""))
	wantCode(t, "a change that was overtaken", err, fault.StaleVersion)
	var f *generated.ConflictFault
	if errors.As(err, &f) {
		equal(t, "the version that the fault tells", *f.CurrentVersion, b.version())
	}
	equal(t, "AssetTag", b.state("AssetTag"), "theirs")
}

func TestConcurrentChangesNeverMix(t *testing.T) {
	t.Parallel()
	b := newBIOS(t, testRegistry())
	var wg sync.WaitGroup
	const writers, times = 8, 6
	for w := range writers {
		wg.Go(func() {
			for n := range times {
				who := fmt.Sprintf("%c", 'a'+w)
				list := []*generated.AttributeValue{value("AssetTag", who+who), value("Location", who+who), value("Notes", who+who), value("Delay", fmt.Sprint(w))}
				r := &generated.SetAttributesRequest{Attribute: list}
				if n%2 == 1 {
					r.ApplyTime = new(generated.ApplyTimeOnReset)
				}
				if _, err := b.SetAttributes(t.Context(), b.call(), r); err != nil {
					var conflict *generated.ConflictFault
					if !errors.As(err, &conflict) {
						t.Errorf("success or a conflict was to be expected, and it is %v", err)
					}
				}
				reply, err := b.GetAttributes(t.Context(), b.call(), &generated.GetAttributesRequest{Name: []string{"AssetTag", "Notes"}})
				if err != nil {
					t.Error(err)
				} else if a, n := told(reply.Attribute[0]), told(reply.Attribute[1]); a != n {
					t.Errorf("a mixture of two requests: AssetTag is %s and Notes %s", a, n)
				}
			}
		})
	}
	wg.Wait()
	b.start()
	if a, n := b.state("AssetTag"), b.state("Notes"); a != n {
		t.Errorf("a mixture of two requests: AssetTag is %s and Notes %s", a, n)
	}
}
