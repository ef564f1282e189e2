// Package power answers the state of a machine's power and changes it (Redfish ComputerSystem.Reset, DSP0268).
// The state is observed at every call. What is kept is only whether the machine was last wanted on, for the
// attribute PowerRestorePolicy.
package power

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"biosv/fault"
	"biosv/generated"
	"biosv/smm"
)

// Function answers [generated.PowerPort].
type Function struct {
	bios     *smm.BIOS
	settings smm.Configurer
}

// New makes the function; settings is where it reads the attribute PowerRestorePolicy.
func New(b *smm.BIOS, settings smm.Configurer) *Function { return &Function{b, settings} }

var _ generated.PowerPort = (*Function)(nil)

// transitions are the resets that make sense in each state, in the order in which answers name them. While a
// machine is on its way, only taking the power away does.
var transitions = map[generated.PowerState][]generated.ResetType{
	generated.PowerStateOn: {
		generated.ResetTypeForceOff, generated.ResetTypeGracefulShutdown, generated.ResetTypeGracefulRestart,
		generated.ResetTypeForceRestart, generated.ResetTypePowerCycle, generated.ResetTypeNmi, generated.ResetTypePushPowerButton,
	},
	generated.PowerStateOff:         {generated.ResetTypeOn, generated.ResetTypePushPowerButton},
	generated.PowerStatePoweringOn:  {generated.ResetTypeForceOff},
	generated.PowerStatePoweringOff: {generated.ResetTypeForceOff},
	generated.PowerStatePaused:      {generated.ResetTypeForceOff, generated.ResetTypeForceRestart},
}

// wanted says of each reset whether the machine is wanted on afterwards; those that leave it open are absent.
var wanted = map[generated.ResetType]bool{
	generated.ResetTypeOn: true, generated.ResetTypeGracefulRestart: true, generated.ResetTypeForceRestart: true, generated.ResetTypePowerCycle: true,
	generated.ResetTypeForceOff: false, generated.ResetTypeGracefulShutdown: false,
}

// GetPowerState observes the state and says what could be done about it.
func (f *Function) GetPowerState(ctx context.Context, call generated.Call, _ *generated.GetPowerStateRequest) (*generated.GetPowerStateReply, error) {
	m, err := f.bios.Machine(call.Domain)
	if err != nil {
		return nil, err
	}
	state, err := m.Power(ctx)
	if err != nil {
		return nil, err
	}
	reply := &generated.GetPowerStateReply{PowerState: &state}
	for _, how := range allowed(m, state) {
		reply.AllowedResetType = append(reply.AllowedResetType, new(how))
	}
	if _, asks := m.(smm.Firmware); !asks || state != generated.PowerStateOn && state != generated.PowerStatePaused {
		return reply, nil
	}
	return reply, f.bios.View(ctx, call, func(tx *smm.Tx) error {
		if phase := tx.Phase(); phase != "" {
			reply.GuestPhase = &phase
		}
		return nil
	})
}

// ResetSystem lets the machine act.
func (f *Function) ResetSystem(ctx context.Context, call generated.Call, request *generated.ResetSystemRequest) (*generated.ResetSystemReply, error) {
	m, err := f.bios.Machine(call.Domain)
	if err != nil {
		return nil, err
	}
	how := *request.ResetType
	before, err := check(ctx, m, how)
	if err != nil {
		return nil, err
	}
	reply := &generated.ResetSystemReply{}
	err = f.bios.Act(ctx, call, generated.OpResetSystem, smm.Action{
		Intend: func(*smm.Tx) error { return nil },
		Act: func(ctx context.Context, m smm.Machine) error {
			// Looked at again: since the check, the machine may have changed by itself.
			if _, err := check(ctx, m, how); err != nil {
				return err
			}
			if err := m.Reset(ctx, how); err != nil {
				return err
			}
			after, err := m.Power(ctx)
			reply.PowerState = &after
			return err
		},
		Conclude: func(tx *smm.Tx) error {
			tx.Event(smm.Event{
				Severity: generated.EventSeverityOk, MessageID: "BiosV.1.0.PowerChanged",
				Message: fmt.Sprintf("%s was asked for: the power was %s and is %s.", how, before, *reply.PowerState),
				Changes: []smm.Change{{Name: "PowerState", Old: new(string(before)), New: new(string(*reply.PowerState))}},
			})
			if on, says := wants(how, before); says {
				tx.State("power").Put([]byte("wanted"), []byte(map[bool]string{true: "on", false: "off"}[on]))
			}
			reply.Version = new(tx.Version())
			return nil
		},
	})
	if err != nil {
		return nil, err
	}
	return reply, nil
}

func wants(how generated.ResetType, before generated.PowerState) (on, says bool) {
	if how == generated.ResetTypePushPowerButton {
		return before == generated.PowerStateOff, true
	}
	on, says = wanted[how]
	return on, says
}

// check observes the state and refuses a reset that makes no sense in it.
func check(ctx context.Context, m smm.Machine, how generated.ResetType) (generated.PowerState, error) {
	if !slices.Contains(m.Resets(), how) {
		return "", fault.Unavailable(fault.NotByThisMachine, 0, "This machine cannot be reset by %s.%s", how, able(m))
	}
	state, err := m.Power(ctx)
	if err != nil {
		return "", err
	}
	ways := allowed(m, state)
	if slices.Contains(ways, how) {
		return state, nil
	}
	refusal := fault.Conflict(fault.WrongPowerState, "The power is %s: %s makes no sense now.", state, how)
	refusal.ElementPath, refusal.RefusedValue = "ResetType", string(how)
	for _, w := range ways {
		refusal.AllowedValue = append(refusal.AllowedValue, string(w))
	}
	return "", refusal
}

func able(m smm.Machine) string {
	if len(m.Resets()) == 0 {
		return " Its power cannot be changed from here at all."
	}
	return fmt.Sprintf(" It can do %v.", m.Resets())
}

func allowed(m smm.Machine, state generated.PowerState) (ways []generated.ResetType) {
	can := m.Resets()
	for _, how := range transitions[state] {
		if slices.Contains(can, how) {
			ways = append(ways, how)
		}
	}
	return ways
}

// The attribute that says what a machine does when its power comes back, and its values; a machine whose
// registry has it gets it obeyed by [Function.Restore].
const (
	RestorePolicy = "PowerRestorePolicy"
	AlwaysOn      = "AlwaysOn"
	AlwaysOff     = "AlwaysOff"
	LastState     = "LastState"
)

// Restore turns machines on that are off when the service starts and whose PowerRestorePolicy says so.
func (f *Function) Restore(ctx context.Context) error {
	domains, err := f.bios.Domains(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, d := range domains {
		if err := f.restore(ctx, d.Name); err != nil {
			errs = append(errs, fmt.Errorf("restore the power of %s: %w", d.Name, err))
		}
	}
	return errors.Join(errs...)
}

func (f *Function) restore(ctx context.Context, domain string) error {
	m, err := f.bios.Machine(domain)
	if err != nil || !slices.Contains(m.Resets(), generated.ResetTypeOn) {
		return nil // a machine that is not there was reported when it was opened
	}
	if state, err := m.Power(ctx); err != nil || state != generated.PowerStateOff {
		return err
	}
	call := f.bios.LocalCall(domain)
	policy, wanted := "", ""
	if err := f.bios.View(ctx, call, func(tx *smm.Tx) error {
		settings, err := f.settings.Settings(tx)
		if err != nil {
			return err
		}
		if v := settings[RestorePolicy]; len(v) == 1 {
			policy = v[0]
		} else {
			policy = defaultOf(m, RestorePolicy)
		}
		wanted = string(tx.State("power").Get([]byte("wanted")))
		return nil
	}); err != nil {
		return err
	}
	if _, outlives := m.(smm.Resumer); outlives && policy == LastState {
		return nil // it knows whether it ran, and whether it turned itself off
	}
	if policy == AlwaysOn || policy == LastState && wanted == "on" {
		_, err := f.ResetSystem(ctx, call, &generated.ResetSystemRequest{ResetType: new(generated.ResetTypeOn)})
		return err
	}
	return nil
}

func defaultOf(m smm.Machine, attribute string) string {
	registry := m.Registry()
	for _, d := range registry.Definition {
		if d.Name == attribute && len(d.DefaultValue) == 1 {
			return d.DefaultValue[0]
		}
	}
	return ""
}
