package attribute_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"biosv/fault"
	"biosv/generated"
	"biosv/smm"
)

func (b *bios) pending() (list []string) {
	b.t.Helper()
	reply, err := b.GetPendingAttributes(b.t.Context(), b.call(), &generated.GetPendingAttributesRequest{})
	must(b.t, err)
	for _, a := range reply.Attribute {
		if *a.ApplyTime != generated.ApplyTimeOnReset || a.RequestedBy != "biosv" {
			b.t.Errorf("%s is pending with %s, by %q", a.Name, *a.ApplyTime, a.RequestedBy)
		}
		list = append(list, a.Name+" "+told(&generated.AttributeState{CurrentValue: a.CurrentValue, Pending: true, PendingValue: a.PendingValue})+
			" "+a.RequestedAt.ToGoTime().Format(time.TimeOnly))
	}
	return list
}

func (b *bios) discard(names ...string) ([]string, error) {
	reply, err := b.DiscardPendingAttributes(b.t.Context(), b.call(), &generated.DiscardPendingAttributesRequest{Name: names})
	if err != nil {
		return nil, err
	}
	return reply.Discarded, nil
}

func (b *bios) resetTo(set generated.DefaultSet) ([]string, error) {
	reply, err := b.ResetAttributes(b.t.Context(), b.call(), &generated.ResetAttributesRequest{DefaultSet: &set})
	if err != nil {
		return nil, err
	}
	list := []string{}
	for _, a := range reply.Attribute {
		list = append(list, a.Name+"="+told(a))
	}
	return list, nil
}

func (b *bios) saveDefaults() {
	b.t.Helper()
	_, err := b.SaveDefaultAttributes(b.t.Context(), b.call(), &generated.SaveDefaultAttributesRequest{})
	must(b.t, err)
}

func TestPendingValuesWaitForAStart(t *testing.T) {
	t.Parallel()
	b := newBIOS(t, testRegistry())
	b.set(value("BootOrder", "usb"), value("BootMode", "Http"))
	b.pass(time.Minute)
	b.setOnReset(value("Load", "Full"), value("BootMode", "Http")) // asked for again, it is as old as it was
	want := []string{"BootMode Uefi→Http 12:00:00", "BootOrder disk,net→usb 12:00:00", "Load Idle→Full 12:01:00"}
	equal(t, "pending values", b.pending(), want)
	b.reopen(testRegistry())
	equal(t, "pending values after a restart", b.pending(), want)
	equal(t, "settings of a machine that was opened", b.machine.opened, smm.Settings{})

	settings := smm.Settings{"BootMode": {"Http"}, "BootOrder": {"usb"}, "Load": {"Full"}}
	version := b.version()
	equal(t, "settings of the start", b.start(), settings)
	equal(t, "version", b.version(), version+1)
	equal(t, "pending values after the start", len(b.pending()), 0)
	equal(t, "BootOrder", b.state("BootOrder"), "usb")
	equal(t, "event", b.eventLines()[2:], []string{"AttributesApplied BootMode:Uefi>Http BootOrder:disk, net>usb Load:Idle>Full"})

	equal(t, "settings of the next start", b.start(), settings)
	equal(t, "version after a start that changed nothing", b.version(), version+1)
	b.reopen(testRegistry())
	equal(t, "settings of a machine that was opened", b.machine.opened, settings)

	b.set(value("BootMode", "Uefi"))
	equal(t, "pending default", b.state("BootMode"), "Http→Uefi")
	equal(t, "settings with a default", b.start(), smm.Settings{"BootOrder": {"usb"}, "Load": {"Full"}})
}

// The action that starts a machine is under way while the machine asks for its settings.
func TestAStartAppliesPendingValuesWhileAnActionIsUnderWay(t *testing.T) {
	t.Parallel()
	b := newBIOS(t, testRegistry())
	b.set(value("BootMode", "Http"))
	var conflict error
	must(t, b.bios.Act(t.Context(), b.call(), generated.OpResetSystem, smm.Action{
		Intend: func(*smm.Tx) error { return nil },
		Act: func(ctx context.Context, _ smm.Machine) error {
			conflict = b.try(value("BootMode", "Uefi"))
			_, err := b.machine.supervisor.Starting(ctx)
			return err
		},
	}))
	wantCode(t, "a change while an action is under way", conflict, fault.OperationUnderWay)
	equal(t, "BootMode", b.state("BootMode"), "Http")
}

func TestAValueEqualToTheCurrentOneTakesAPendingOneAway(t *testing.T) {
	t.Parallel()
	b := newBIOS(t, testRegistry())
	b.set(value("BootMode", "Http"))
	b.set(value("BootMode", "Uefi"))
	b.setOnReset(value("Quiet", "true"))
	b.setOnReset(value("Quiet", "0"))
	b.setOnReset(value("AssetTag", "later"))
	b.set(value("AssetTag", "now"))
	equal(t, "pending values", len(b.pending()), 0)
	equal(t, "settings of a start", b.start(), smm.Settings{"AssetTag": {"now"}})
}

func TestPendingValuesAreDiscarded(t *testing.T) {
	t.Parallel()
	b := newBIOS(t, testRegistry())
	b.set(value("BootMode", "Http"), value("Tpm", "false"))
	b.setOnReset(value("Load", "Full"))
	version := b.version()

	_, err := b.discard("Tpm", "AssetTag")
	wantCode(t, "an attribute that has no pending value", err, fault.NotPending)
	var f *generated.NotFoundFault
	if errors.As(err, &f) {
		equal(t, "the element at fault", f.ElementPath+" "+f.RefusedValue, "/DiscardPendingAttributes/Name[2] AssetTag")
	}
	_, err = b.discard("Nothing")
	wantCode(t, "an unknown attribute", err, fault.UnknownAttribute)
	equal(t, "version after refusals", b.version(), version)

	got, err := b.discard("Tpm", "Tpm")
	must(t, err)
	equal(t, "discarded", got, []string{"Tpm"})
	equal(t, "version", b.version(), version+1)
	got, err = b.discard()
	must(t, err)
	equal(t, "discarded", got, []string{"BootMode", "Load"})
	equal(t, "events", b.eventLines()[2:], []string{"PendingAttributesDiscarded Tpm:false>true", "PendingAttributesDiscarded BootMode:Http>Uefi Load:Full>Idle"})
	got, err = b.discard()
	must(t, err)
	equal(t, "discarded when nothing waits", len(got), 0)
	equal(t, "version", b.version(), version+2)
	equal(t, "settings of a start", b.start(), smm.Settings{})
}

func TestAPendingValueThatAnotherNeedsIsNotDiscardedAlone(t *testing.T) {
	t.Parallel()
	b := newBIOS(t, testRegistry())
	b.set(value("BootMode", "Legacy"), value("BootOrder", "usb"))
	_, err := b.discard("BootOrder")
	equal(t, "refusals", refusals(t, err), []string{"BootOrder ValueLimitedByDependency"})
	got, err := b.discard("BootMode")
	must(t, err)
	equal(t, "discarded", got, []string{"BootMode"})
	b.set(value("BootMode", "Legacy"))
	got, err = b.discard("BootOrder", "BootMode")
	must(t, err)
	equal(t, "discarded", got, []string{"BootOrder", "BootMode"})
}

func TestAttributesAreResetToDefaults(t *testing.T) {
	t.Parallel()
	b := newBIOS(t, testRegistry())
	_, err := b.resetTo(generated.DefaultSetSaved)
	wantCode(t, "defaults that nobody saved", err, fault.NoSavedDefaults)
	got, err := b.resetTo(generated.DefaultSetFactory)
	must(t, err)
	equal(t, "changed by a reset of what is as it was made", got, []string{})
	equal(t, "events", len(b.eventLines()), 0)

	b.set(value("AssetTag", "mine"), value("BootOrder", "usb"), value("Load", "Full"), value("ThermalPolicy", "Custom"), value("FanPercent", "50"))
	b.start()
	b.set(value("Tpm", "false")) // which waits, and is not saved
	b.saveDefaults()
	version := b.version()
	b.saveDefaults()
	equal(t, "version after the same was saved again", b.version(), version)

	got, err = b.resetTo(generated.DefaultSetFactory)
	must(t, err)
	equal(t, "changed by a reset to factory defaults", got, []string{"AssetTag=", "FanPercent=40", "Tpm=true", "ThermalPolicy=Balanced", "BootOrder=usb→disk,net", "Load=Idle"})
	equal(t, "settings given to the machine", b.machine.last(t), smm.Settings{"BootOrder": {"usb"}})
	b.start()
	equal(t, "BootOrder", b.state("BootOrder"), "disk,net")

	b.set(value("Notes", "not saved"))
	b.reopen(testRegistry())
	got, err = b.resetTo(generated.DefaultSetSaved)
	must(t, err)
	equal(t, "changed by a reset to saved defaults", got, []string{"AssetTag=mine", "Notes=", "FanPercent=50", "ThermalPolicy=Custom", "BootOrder=disk,net→usb", "Load=Full"})
	equal(t, "settings of a start", b.start(), smm.Settings{"AssetTag": {"mine"}, "BootOrder": {"usb"}, "Load": {"Full"}, "ThermalPolicy": {"Custom"}, "FanPercent": {"50"}})
	lines := b.eventLines()
	equal(t, "the event of a reset", lines[len(lines)-2], "AttributesReset AssetTag:>mine Notes:not saved> FanPercent:40>50 ThermalPolicy:Balanced>Custom BootOrder:disk, net>usb Load:Idle>Full")
}

// An upgrade brings another registry: what it does not allow any more has its default, and nothing breaks.
func TestValuesThatARegistryNoLongerAllowsCountForNothing(t *testing.T) {
	t.Parallel()
	b := newBIOS(t, testRegistry())
	b.set(value("AssetTag", "0123456789"), value("Location", "attic"), value("ThermalPolicy", "Custom"), value("FanPercent", "45"), value("Bias", "-3"))
	b.set(value("BootMode", "Http"), value("Tpm", "false"), value("BootOrder", "usb"))
	b.setOnReset(value("Notes", "soon gone"), value("AdministratorSecret", "secret"))
	b.saveDefaults()

	upgraded := testRegistry()
	upgraded.RegistryId = "Test.v2_0_0"
	list := upgraded.Definition[:0]
	for _, d := range upgraded.Definition {
		switch d.Name {
		case "Notes":
			continue
		case "AssetTag":
			long(0, 5)(d)
		case "Location":
			readOnly(d)
		case "FanPercent":
			within(30, 90)(d)
			d.DefaultValue = []string{"60"}
		case "Bias":
			d.DefaultValue = []string{"-3"}
		case "BootMode":
			d.PossibleValue = d.PossibleValue[:2]
		}
		list = append(list, d)
	}
	upgraded.Definition, upgraded.Dependency = list, upgraded.Dependency[:2]
	b.reopen(upgraded)
	equal(t, "settings of a machine that was opened", b.machine.opened["AssetTag"], []string{"0123456789"}) // its registry is not known yet

	want := map[string]string{
		"AssetTag": "", "Location": "hall", "FanPercent": "45", "Offset": "0", "Delay": "0", "Bias": "-3", "Quiet": "false", "Tpm": "true→false",
		"ThermalPolicy": "Custom", "BootMode": "Uefi", "BootOrder": "disk,net→usb", "Alerts": "", "Serial": "S-1", "Uuid": "u-1",
		"AdministratorSecret": "→", "StartSecret": "",
	}
	equal(t, "attributes after the upgrade", b.all(), want)
	equal(t, "settings of the start", b.start(), smm.Settings{"ThermalPolicy": {"Custom"}, "FanPercent": {"45"}, "Tpm": {"false"}, "BootOrder": {"usb"}})
	_, err := b.resetTo(generated.DefaultSetSaved)
	wantCode(t, "a change without the administrator password, which the start made current", err, fault.WrongPassword)
	_, err = b.request(&generated.SetAttributesRequest{Attribute: []*generated.AttributeValue{value("Notes", "x"), value("Location", "attic")}, AdministratorPassword: "secret"})
	equal(t, "refusals", refusals(t, err), []string{"Notes UnknownAttribute", "Location ReadOnlyAttribute"})
}

func TestALimitThatCameWithAnUpgradeStopsOnlyWhatNamesIt(t *testing.T) {
	t.Parallel()
	b := newBIOS(t, testRegistry())
	upgraded := testRegistry()
	upgraded.Dependency = append(upgraded.Dependency, depends("BootOrder", "Tpm", "true", generated.DependencyEffectLimited, "usb"))
	b.reopen(upgraded)
	b.set(value("Tpm", "true"), value("AssetTag", "other")) // Tpm is true already
	equal(t, "refusals", refusals(t, b.try(value("BootOrder", "disk"))), []string{"BootOrder ValueLimitedByDependency"})
	b.set(value("Tpm", "false"))
	equal(t, "refusals", refusals(t, b.try(value("Tpm", "true"))), []string{"Tpm ValueLimitedByDependency"})
	b.set(value("Tpm", "true"), value("BootOrder", "usb"))
}

func TestSavedDefaultsThatARegistryNoLongerAllowsAreLeftOut(t *testing.T) {
	t.Parallel()
	b := newBIOS(t, testRegistry())
	b.set(value("AssetTag", "0123456789"), value("Quiet", "true"))
	b.saveDefaults()
	_, err := b.resetTo(generated.DefaultSetFactory)
	must(t, err)
	upgraded := testRegistry()
	long(0, 5)(upgraded.Definition[0])
	b.reopen(upgraded)
	got, err := b.resetTo(generated.DefaultSetSaved)
	must(t, err)
	equal(t, "changed", got, []string{"Quiet=true"})
}
