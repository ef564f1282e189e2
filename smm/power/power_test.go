package power_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"biosv/generated"
	"biosv/internal/testbios"
	"biosv/smm"
	"biosv/smm/power"
)

type bench struct {
	*testing.T
	*testbios.BIOS
	*power.Function
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := testbios.New(t, testbios.Options{})
	return &bench{t, b, power.New(b.BIOS, b)}
}

func (b *bench) reset(domain string, how generated.ResetType) (*generated.ResetSystemReply, error) {
	return b.ResetSystem(b.Context(), b.LocalCall(domain), &generated.ResetSystemRequest{ResetType: &how})
}

func (b *bench) allowed(domain string) (generated.PowerState, []generated.ResetType) {
	b.Helper()
	reply, err := b.GetPowerState(b.Context(), b.LocalCall(domain), &generated.GetPowerStateRequest{})
	if err != nil {
		b.Fatal(err)
	}
	var ways []generated.ResetType
	for _, w := range reply.AllowedResetType {
		ways = append(ways, *w)
	}
	return *reply.PowerState, ways
}

// What makes sense in each state (Redfish ComputerSystem.Reset, as the contract tells it).
var sense = map[generated.PowerState][]generated.ResetType{
	generated.PowerStateOn: {
		generated.ResetTypeForceOff, generated.ResetTypeGracefulShutdown, generated.ResetTypeGracefulRestart, generated.ResetTypeForceRestart,
		generated.ResetTypePowerCycle, generated.ResetTypeNmi, generated.ResetTypePushPowerButton,
	},
	generated.PowerStateOff:         {generated.ResetTypeOn, generated.ResetTypePushPowerButton},
	generated.PowerStatePoweringOn:  {generated.ResetTypeForceOff},
	generated.PowerStatePoweringOff: {generated.ResetTypeForceOff},
	generated.PowerStatePaused:      {generated.ResetTypeForceOff, generated.ResetTypeForceRestart},
}

func TestThePhaseIsToldOfAGuestThatRuns(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	m := b.Fake("demo")
	told := func(state generated.PowerState) string {
		m.Be(state)
		reply, err := b.GetPowerState(t.Context(), b.LocalCall("demo"), &generated.GetPowerStateRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if reply.GuestPhase == nil {
			return ""
		}
		return string(*reply.GuestPhase)
	}
	if phase := told(generated.PowerStateOn); phase != "" {
		t.Errorf("a guest that was never started is in the phase %s", phase)
	}
	if _, err := m.Supervisor.Starting(t.Context()); err != nil {
		t.Fatal(err)
	}
	if phase := told(generated.PowerStateOn); phase != "BootServices" {
		t.Errorf("after the start the phase is %s", phase)
	}
	if err := m.Supervisor.Enter(t.Context(), generated.GuestPhaseOperatingSystem, smm.Event{MessageID: "m"}); err != nil {
		t.Fatal(err)
	}
	for state, want := range map[generated.PowerState]string{
		generated.PowerStateOn: "OperatingSystem", generated.PowerStatePaused: "OperatingSystem", generated.PowerStateOff: "", generated.PowerStatePoweringOn: "",
	} {
		if phase := told(state); phase != want {
			t.Errorf("while the power is %s the phase is %q", state, phase)
		}
	}
}

func TestEveryResetInEveryState(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	m := b.Fake("demo")
	m.OnReset(func(context.Context, generated.ResetType) error { return nil })
	for _, state := range generated.Types["GetPowerStateReply"][0].Values {
		state := generated.PowerState(state)
		if sense[state] == nil {
			t.Fatalf("the contract has the state %s, and the test does not", state)
		}
		m.Be(state)
		got, ways := b.allowed("demo")
		if got != state || !slices.Equal(ways, sense[state]) {
			t.Errorf("in %s the answer is %s, and allows %v; want %v", state, got, ways, sense[state])
		}
		for _, how := range testbios.AllResets {
			before := len(m.WasReset())
			_, err := b.reset("demo", how)
			acted := len(m.WasReset()) > before
			if want := slices.Contains(sense[state], how); (err == nil) != want || acted != want {
				t.Errorf("%s in %s: %v; the machine acted: %v", how, state, err, acted)
			}
			var f *generated.ConflictFault
			if err == nil || errors.As(err, &f) && f.Code == "WrongPowerState" && f.RefusedValue == string(how) && len(f.AllowedValue) == len(ways) {
				continue
			}
			t.Errorf("%s in %s is refused with %+v", how, state, f)
		}
	}
	if n := len(generated.Types["ResetSystemRequest"][0].Values); n != len(testbios.AllResets) {
		t.Errorf("the contract has %d resets, and the test %d", n, len(testbios.AllResets))
	}
}

func TestAMachineThatCannotBeResetSaysSo(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	if state, ways := b.allowed(smm.PrivilegedDomain); state != generated.PowerStateOn || len(ways) != 0 {
		t.Errorf("the host is %s and allows %v", state, ways)
	}
	b.Fake("demo").Be(generated.PowerStateOn, generated.ResetTypeForceOff)
	if _, ways := b.allowed("demo"); fmt.Sprint(ways) != "[ForceOff]" {
		t.Errorf("a machine that can be turned off only allows %v", ways)
	}
	for _, domain := range []string{smm.PrivilegedDomain, "demo"} {
		var f *generated.UnavailableFault
		if _, err := b.reset(domain, generated.ResetTypeForceRestart); !errors.As(err, &f) || f.Code != "NotSupportedByMachine" {
			t.Errorf("%s: %v", domain, err)
		}
	}
}

func TestAResetIsToldWithWhatWasObserved(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	before := b.Version("demo")
	reply, err := b.reset("demo", generated.ResetTypeOn)
	if err != nil || *reply.PowerState != generated.PowerStateOn || *reply.Version != before+1 {
		t.Fatalf("%+v, %v", reply, err)
	}
	events := b.Events("demo")
	if len(events) != 1 || events[0].MessageId != "BiosV.1.0.PowerChanged" || events[0].Change[0].OldValue != "Off" || events[0].Change[0].NewValue != "On" {
		t.Errorf("the events are %+v", events)
	}
}

func TestAResetThatFails(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	m, broken := b.Fake("demo"), errors.New("no")
	m.OnReset(func(context.Context, generated.ResetType) error { return broken })
	if _, err := b.reset("demo", generated.ResetTypeOn); !errors.Is(err, broken) {
		t.Errorf("the machine fails: %v", err)
	}
	m.Break(broken)
	if _, err := b.reset("demo", generated.ResetTypeOn); !errors.Is(err, broken) {
		t.Errorf("it cannot be observed: %v", err)
	}
	if _, err := b.GetPowerState(t.Context(), b.LocalCall("demo"), &generated.GetPowerStateRequest{}); !errors.Is(err, broken) {
		t.Errorf("GetPowerState: %v", err)
	}
	m.Break(nil)
	m.OnReset(nil)
	if _, err := b.reset("demo", generated.ResetTypeOn); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	if _, err := b.reset("nowhere", generated.ResetTypeOn); err == nil {
		t.Error("a domain that is not there was reset")
	}
}

// What a machine does when the service starts: as PowerRestorePolicy says, or its default in the registry.
func TestRestore(t *testing.T) {
	t.Parallel()
	registry := func(value string) generated.GetAttributeRegistryReply {
		return generated.GetAttributeRegistryReply{Definition: []*generated.AttributeDefinition{
			{Name: "Other", DefaultValue: []string{power.AlwaysOn}}, {Name: power.RestorePolicy, DefaultValue: []string{value}},
		}}
	}
	set := func(value string) smm.Settings { return smm.Settings{power.RestorePolicy: {value}} }
	for _, row := range []struct {
		name     string
		settings smm.Settings
		registry generated.GetAttributeRegistryReply
		last     []generated.ResetType // what was asked for before
		want     generated.PowerState
	}{
		{"always on", set(power.AlwaysOn), registry(power.AlwaysOff), nil, generated.PowerStateOn},
		{"always off", set(power.AlwaysOff), registry(power.AlwaysOn), []generated.ResetType{generated.ResetTypeOn}, generated.PowerStateOff},
		{"the last state, which was never set", set(power.LastState), registry(power.AlwaysOn), nil, generated.PowerStateOff},
		{"the last state, which was on", set(power.LastState), registry(power.AlwaysOff), []generated.ResetType{generated.ResetTypeOn}, generated.PowerStateOn},
		{"the last state, which was off", set(power.LastState), registry(power.AlwaysOff), []generated.ResetType{generated.ResetTypeOn, generated.ResetTypeForceOff}, generated.PowerStateOff},
		{"the last state, after a restart", set(power.LastState), registry(power.AlwaysOff), []generated.ResetType{generated.ResetTypeOn, generated.ResetTypeGracefulRestart}, generated.PowerStateOn},
		{"the last state, after a shutdown", set(power.LastState), registry(power.AlwaysOff), []generated.ResetType{generated.ResetTypeOn, generated.ResetTypeGracefulShutdown}, generated.PowerStateOff},
		{"the last state, after the button turned it on", set(power.LastState), registry(power.AlwaysOff), []generated.ResetType{generated.ResetTypePushPowerButton}, generated.PowerStateOn},
		{"the last state, after the button turned it off", set(power.LastState), registry(power.AlwaysOff), []generated.ResetType{generated.ResetTypeOn, generated.ResetTypePushPowerButton}, generated.PowerStateOff},
		{"the last state, after an interrupt", set(power.LastState), registry(power.AlwaysOff), []generated.ResetType{generated.ResetTypeOn, generated.ResetTypeNmi}, generated.PowerStateOn},
		{"the registry's default, on", nil, registry(power.AlwaysOn), nil, generated.PowerStateOn},
		{"the registry's default, off", nil, registry(power.AlwaysOff), []generated.ResetType{generated.ResetTypeOn}, generated.PowerStateOff},
		{"no such attribute", nil, generated.GetAttributeRegistryReply{}, []generated.ResetType{generated.ResetTypeOn}, generated.PowerStateOff},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.Set(row.settings)
			for _, how := range row.last {
				if _, err := b.reset("demo", how); err != nil {
					t.Fatal(err)
				}
			}
			m := b.Fake("demo")
			m.Define(row.registry)
			m.Be(generated.PowerStateOff) // as the machine is after the power was gone
			if err := b.Restore(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got, _ := m.Power(t.Context()); got != row.want {
				t.Errorf("it is %s; want %s", got, row.want)
			}
		})
	}
}

func TestRestoreLeavesAloneWhatIsOnAndReportsWhatFails(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.Set(smm.Settings{power.RestorePolicy: {power.AlwaysOn}})
	m := b.Fake("demo")
	for _, state := range []generated.PowerState{generated.PowerStateOn, generated.PowerStatePaused, generated.PowerStatePoweringOff} {
		m.Be(state)
		if err := b.Restore(t.Context()); err != nil || len(m.WasReset()) != 0 {
			t.Errorf("a machine that is %s: %v, %v", state, m.WasReset(), err)
		}
	}
	broken := errors.New("no")
	m.Be(generated.PowerStateOff)
	m.OnReset(func(context.Context, generated.ResetType) error { return broken })
	if err := b.Restore(t.Context()); !errors.Is(err, broken) {
		t.Errorf("a machine that fails: %v", err)
	}
	if err := b.CloseMachine("demo"); err != nil {
		t.Fatal(err)
	}
	if err := b.Restore(t.Context()); err != nil {
		t.Errorf("a machine that is not there: %v", err)
	}
}
