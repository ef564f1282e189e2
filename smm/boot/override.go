package boot

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"biosv/fault"
	"biosv/generated"
	"biosv/smm"
	"biosv/store"
)

// An override for one boot that can be said by a variable is that variable: BootNext for an option, a bit of OsIndications
// for the firmware's setup. Whoever else writes them, the guest too, makes and ends overrides by that. An override of
// another sort, or that is set while firmware is about to use these variables, is kept, and becomes a variable whenever a
// boot begins ([Function.Begin]).
//
// The newest wins: an override that is set clears BootNext and the bit, so what is found of them when a boot begins, and was
// not made of the override, was written since, and decides that boot.
//
// Firmware deletes BootNext when it uses it, and says in BootCurrent what it starts. By these two it is seen whether a boot
// that an override was given to came so far; one that did not, as when the machine could not be started, leaves an
// override for one boot as it was.

// kept is an override that is kept.
type kept struct {
	Target generated.BootTarget
	Mode   generated.BootOverrideMode
	Option *number `json:",omitempty"` // of the target UefiTarget
	Given  bool    `json:",omitempty"` // a boot was begun with it
	Made   *number `json:",omitempty"` // the BootNext that this boot was given
}

// The bucket, and the key in it.
const (
	function = "boot"
	key      = "override"
)

func read(tx *smm.Tx) (k kept, ok bool, err error) {
	return store.GetJSON[kept](tx.State(function), key)
}

// shown is an override as callers see it; its zero value is none.
type shown struct {
	target generated.BootTarget
	mode   generated.BootOverrideMode
	option *number
}

func (s shown) message() *generated.BootOverride {
	if s.target == "" {
		return nil
	}
	m := &generated.BootOverride{BootTarget: &s.target, BootOverrideMode: &s.mode}
	if s.option != nil {
		m.BootOptionReference = s.option.reference()
	}
	return m
}

// told is an override as the event log has it.
func (s shown) told() *string {
	switch {
	case s.target == "":
		return nil
	case s.option != nil:
		return new(fmt.Sprintf("%s %s", s.mode, s.option))
	}
	return new(fmt.Sprintf("%s %s", s.mode, s.target))
}

func (k kept) shown() shown { return shown{k.Target, k.Mode, k.Option} }

// signs are what the variables tell of a boot and the next one.
type signs struct {
	next    *number // BootNext
	current *number // BootCurrent: volatile, so of the last boot, and there as soon as that started an option
	setup   bool    // the firmware's setup is wished for
}

func (f *Function) signs(tx *smm.Tx) (s signs, err error) {
	if s.next, err = f.one(tx, varNext); err != nil {
		return s, err
	}
	if s.current, err = f.one(tx, varCurrent); err != nil {
		return s, err
	}
	indications, err := f.indications(tx)
	s.setup = indications&bootToSetup != 0
	return s, err
}

// bootToSetup is EFI_OS_INDICATIONS_BOOT_TO_FW_UI (section 8.5.4).
const bootToSetup uint64 = 1

// indications gives OsIndications; what is no 64-bit number counts as 0.
func (f *Function) indications(tx *smm.Tx) (uint64, error) {
	b, err := f.variables.Global(tx, varOsIndications)
	if err != nil || len(b) != 8 {
		return 0, err
	}
	return binary.LittleEndian.Uint64(b), nil
}

// wishForSetup writes the bit, if it is not so.
func (f *Function) wishForSetup(tx *smm.Tx, wish bool) error {
	was, err := f.indications(tx)
	if err != nil {
		return err
	}
	is := was &^ bootToSetup
	if wish {
		is |= bootToSetup
	}
	if is == was {
		return nil
	}
	return f.variables.SetGlobal(tx, varOsIndications, binary.LittleEndian.AppendUint64(nil, is))
}

func (f *Function) setNext(tx *smm.Tx, n *number) error {
	if n == nil {
		return f.variables.SetGlobal(tx, varNext, nil)
	}
	return f.variables.SetGlobal(tx, varNext, binary.LittleEndian.AppendUint16(nil, uint16(*n)))
}

// spent says whether an override for one boot was used by the boot that it was given to.
func (k kept) spent(s signs) bool {
	return k.Mode == generated.BootOverrideModeOnce && k.Given && (s.current != nil || k.Made != nil && s.next == nil)
}

// made says whether BootNext is what was made of the override, and firmware has not used it.
func (k kept) made(s signs) bool {
	return k.Made != nil && s.next != nil && *s.next == *k.Made && s.current == nil
}

// override gives the override in force.
func (f *Function) override(tx *smm.Tx) (shown, error) {
	s, err := f.signs(tx)
	if err != nil {
		return shown{}, err
	}
	k, ok, err := read(tx)
	switch {
	case err != nil:
		return shown{}, err
	case ok && !k.spent(s):
		return k.shown(), nil
	case s.setup:
		return shown{target: generated.BootTargetBiosSetup, mode: generated.BootOverrideModeOnce}, nil
	case s.next != nil:
		return shown{generated.BootTargetUefiTarget, generated.BootOverrideModeOnce, s.next}, nil
	}
	return shown{}, nil
}

// SetBootOverride says what the next boot, or every boot, takes.
func (f *Function) SetBootOverride(ctx context.Context, call generated.Call, request *generated.SetBootOverrideRequest) (*generated.SetBootOverrideReply, error) {
	if err := check(request); err != nil {
		return nil, err
	}
	want := kept{Target: *request.BootTarget, Mode: generated.BootOverrideModeOnce}
	if request.BootOverrideMode != nil {
		want.Mode = *request.BootOverrideMode
	}
	reply := &generated.SetBootOverrideReply{}
	err := f.change(ctx, call, generated.OpSetBootOverride, request.Version, func(tx *smm.Tx) error {
		before, err := f.override(tx)
		if err != nil {
			return err
		}
		if want.Target != generated.BootTargetNone {
			if err := f.checkTarget(tx, want.Target); err != nil {
				return err
			}
		}
		if request.BootOptionReference != nil {
			o, err := f.options(tx)
			if err != nil {
				return err
			}
			n, err := o.named("/SetBootOverride/BootOptionReference", *request.BootOptionReference)
			if err != nil {
				return err
			}
			want.Option = &n
		}
		if err := f.put(tx, want); err != nil {
			return err
		}
		after, err := f.override(tx)
		if err != nil {
			return err
		}
		if old, is := before.told(), after.told(); (old == nil) != (is == nil) || old != nil && *old != *is {
			message := "The boot override was taken away."
			if is != nil {
				message = "The boot override was set: " + *is + "."
			}
			tx.Event(smm.Event{
				Severity: generated.EventSeverityOk, MessageID: "BiosV.1.0.BootOverrideChanged", Message: message,
				Changes: []smm.Change{{Name: "BootOverride", Old: old, New: is}},
			})
		}
		reply.Version, reply.BootOverride = new(tx.Version()), after.message()
		return nil
	})
	if err != nil {
		return nil, err
	}
	return reply, nil
}

// check refuses what does not go together in a request.
func check(r *generated.SetBootOverrideRequest) error {
	const path = "/SetBootOverride/"
	switch target := *r.BootTarget; {
	case target == generated.BootTargetUefiTarget && r.BootOptionReference == nil:
		return fault.InvalidRequest(fault.InvalidValue, path+"BootOptionReference", "", "The target UefiTarget is an option: BootOptionReference must say which.")
	case target != generated.BootTargetUefiTarget && r.BootOptionReference != nil:
		return fault.InvalidRequest(fault.InvalidValue, path+"BootOptionReference", string(*r.BootOptionReference), "An option goes with the target UefiTarget, and the target is %s.", target)
	case target == generated.BootTargetNone && r.BootOverrideMode != nil:
		return fault.InvalidRequest(fault.InvalidValue, path+"BootOverrideMode", string(*r.BootOverrideMode), "The target None takes the override away, now: it has no mode.")
	}
	return nil
}

// checkTarget refuses what the machine can never be started from.
func (f *Function) checkTarget(tx *smm.Tx, target generated.BootTarget) error {
	m, err := f.bios.Machine(tx.Domain.Name)
	if err != nil {
		return err
	}
	b, says := m.(Bootable)
	if !says {
		return nil
	}
	targets := b.BootTargets()
	switch {
	case len(targets) == 0:
		return fault.Unavailable(fault.NotByThisMachine, 0, "The machine of %s is not started from boot options: an override would never be used.", tx.Domain.Name)
	case target != generated.BootTargetUefiTarget && !slices.Contains(targets, target):
		return fault.Unavailable(fault.NotByThisMachine, 0, "The machine of %s has nothing that it could be started from by %s; it has %v.", tx.Domain.Name, target, targets)
	}
	return nil
}

// put puts an override in place of all that there is. Before a boot has started an option, its firmware may have read the
// variables and be about to delete them, so what is for the boot after that is kept.
func (f *Function) put(tx *smm.Tx, want kept) error {
	s, err := f.signs(tx)
	if err != nil {
		return err
	}
	tx.State(function).Delete([]byte(key))
	variable := want.Mode == generated.BootOverrideModeOnce && s.current != nil
	var next *number
	if variable {
		next = want.Option
	}
	setup := variable && want.Target == generated.BootTargetBiosSetup
	if err := f.setNext(tx, next); err != nil {
		return err
	}
	if err := f.wishForSetup(tx, setup); err != nil {
		return err
	}
	if want.Target == generated.BootTargetNone || next != nil || setup {
		return nil
	}
	return store.PutJSON(tx.State(function), key, want)
}

// Begin makes variables of the override, for a boot that begins in the transaction. The variables of the boot before are
// still there. No override keeps a machine from starting: one that cannot be followed is told of.
func (f *Function) Begin(tx *smm.Tx) error {
	s, err := f.signs(tx)
	if err != nil {
		return err
	}
	k, ok, err := read(tx)
	if err != nil || !ok {
		return err
	}
	if k.spent(s) {
		tx.State(function).Delete([]byte(key))
		return nil
	}
	if s.next != nil && !k.made(s) || s.setup && k.Target != generated.BootTargetBiosSetup {
		return f.yield(tx, k)
	}
	err = f.follow(tx, &k)
	var refused *generated.UefiFault
	if errors.As(err, &refused) {
		warn(tx, "The boot override %s could not be followed, and the machine starts in its boot order: %s", *k.shown().told(), refused.Message)
		k.Made, err = nil, nil
	}
	if err != nil {
		return err
	}
	k.Given = true
	return store.PutJSON(tx.State(function), key, k)
}

// yield leaves a boot to what was asked for after the override: for one boot it is in its place.
func (f *Function) yield(tx *smm.Tx, k kept) error {
	k.Given, k.Made = false, nil
	if k.Mode == generated.BootOverrideModeContinuous {
		return store.PutJSON(tx.State(function), key, k)
	}
	tx.State(function).Delete([]byte(key))
	tx.Event(smm.Event{
		Severity: generated.EventSeverityOk, MessageID: "BiosV.1.0.BootOverrideReplaced", Message: "The guest has asked for something else to be booted next than the boot override, which is gone.",
		Changes: []smm.Change{{Name: "BootOverride", Old: k.shown().told()}},
	})
	return nil
}

// follow makes the variables of an override.
func (f *Function) follow(tx *smm.Tx, k *kept) error {
	k.Made = nil
	if k.Target == generated.BootTargetBiosSetup {
		if err := f.wishForSetup(tx, true); err != nil {
			return err
		}
		return f.setNext(tx, nil)
	}
	o, err := f.options(tx)
	if err != nil {
		return err
	}
	n, found := number(0), false
	if k.Option != nil {
		n = *k.Option
		_, found = o.all[n]
	} else {
		n, found = o.first(k.Target)
	}
	if !found {
		warn(tx, "There is no boot option for the boot override %s: the machine starts in its boot order.", *k.shown().told())
		return f.setNext(tx, nil)
	}
	if err := f.setNext(tx, &n); err != nil {
		return err
	}
	k.Made = &n
	tx.Event(smm.Event{
		Severity: generated.EventSeverityOk, MessageID: "BiosV.1.0.BootOverrideApplied",
		Message: fmt.Sprintf("By the boot override %s, the machine starts from %s.", *k.shown().told(), n),
	})
	return nil
}

func warn(tx *smm.Tx, format string, a ...any) {
	tx.Event(smm.Event{Severity: generated.EventSeverityWarning, MessageID: "BiosV.1.0.BootOverrideNotFollowed", Message: fmt.Sprintf(format, a...)})
}
