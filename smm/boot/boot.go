// Package boot answers what a machine is started from: its boot options, their order, and what the next boot takes in
// place of it (UEFI 2.10, section 3.1, the boot manager; Redfish ComputerSystem, Boot). Begin with [Function].
//
// The truth is the UEFI variables Boot####, BootOrder, BootNext, BootCurrent and OsIndications, which firmware, operating
// system and operators share: what one writes, the others see at once. They are read and written by the rules of the
// variable services, in the transaction of whoever asks ([Variables]). Kept here is only what variables cannot say: an
// override that holds for more than one boot, or that names a class of targets (override.go).
package boot

import (
	"context"
	"encoding/binary"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"biosv/fault"
	"biosv/generated"
	"biosv/smm"
	"biosv/smm/boot/option"
)

// Variables are the globally defined UEFI variables of the domain of a transaction (UEFI 2.10, section 3.3), by the rules
// by which whoever calls may read and write them. Where a machine has none, they give UnavailableFault.
type Variables interface {
	// Global gives a variable's value, nil where there is none.
	Global(tx *smm.Tx, name string) ([]byte, error)
	// Globals gives all of them, in the order of their names.
	Globals(tx *smm.Tx, fn func(name string, value []byte)) error
	// SetGlobal writes a variable. Without a value it deletes it, if there is one.
	SetGlobal(tx *smm.Tx, name string, value []byte) error
}

// Bootable is a machine that says what it can be started from at all. One that is started otherwise, as by a kernel that
// it is given, has no targets; one that does not say may have any.
type Bootable interface {
	BootTargets() []generated.BootTarget
}

// Function answers [generated.BootPort].
type Function struct {
	bios      *smm.BIOS
	variables Variables
}

// New makes the function.
func New(b *smm.BIOS, v Variables) *Function { return &Function{b, v} }

var _ generated.BootPort = (*Function)(nil)

// The variables.
const (
	varOrder         = "BootOrder"
	varNext          = "BootNext"
	varCurrent       = "BootCurrent"
	varTimeout       = "Timeout"
	varOsIndications = "OsIndications"
)

// number is that of a boot option: #### of its variable's name.
type number uint16

func (n number) String() string { return fmt.Sprintf("Boot%04X", uint16(n)) }

func (n number) reference() *generated.BootOptionReference {
	return new(generated.BootOptionReference(n.String()))
}

var optionName = regexp.MustCompile(`^Boot[0-9A-F]{4}$`)

// numberOf gives the number of a boot option's variable.
func numberOf(name string) (n number, ok bool) {
	if !optionName.MatchString(name) {
		return 0, false
	}
	u, err := strconv.ParseUint(strings.TrimPrefix(name, "Boot"), 16, 16)
	return number(u), err == nil
}

// one gives the number that a variable holds which has one; a guest may have written something else, which counts as
// nothing, as it does for edk2.
func (f *Function) one(tx *smm.Tx, name string) (*number, error) {
	b, err := f.variables.Global(tx, name)
	if err != nil || len(b) != 2 {
		return nil, err
	}
	return new(number(binary.LittleEndian.Uint16(b))), nil
}

// order gives BootOrder, each option once.
func (f *Function) order(tx *smm.Tx) (order []number, err error) {
	b, err := f.variables.Global(tx, varOrder)
	seen := map[number]bool{}
	for ; len(b) >= 2; b = b[2:] {
		if n := number(binary.LittleEndian.Uint16(b)); !seen[n] {
			seen[n] = true
			order = append(order, n)
		}
	}
	return order, err
}

// options are the boot options of a domain.
type options struct {
	order []number
	all   map[number]option.Option
}

func (f *Function) options(tx *smm.Tx) (o options, err error) {
	if o.order, err = f.order(tx); err != nil {
		return o, err
	}
	o.all = map[number]option.Option{}
	return o, f.variables.Globals(tx, func(name string, value []byte) {
		if n, ok := numberOf(name); ok {
			o.all[n] = option.Parse(value)
		}
	})
}

// sorted are the options that are there: those of the order in it, then the others by their numbers.
func (o options) sorted() (list []number) {
	ordered := map[number]bool{}
	for _, n := range o.order {
		if _, there := o.all[n]; there {
			ordered[n] = true
			list = append(list, n)
		}
	}
	var others []number
	for n := range o.all {
		if !ordered[n] {
			others = append(others, n)
		}
	}
	slices.Sort(others)
	return append(list, others...)
}

// first gives the first active option of a class of targets.
func (o options) first(target generated.BootTarget) (number, bool) {
	for _, n := range o.sorted() {
		if o.all[n].Active && o.all[n].Target == target {
			return n, true
		}
	}
	return 0, false
}

// GetBootOptions tells what the machine is started from.
func (f *Function) GetBootOptions(ctx context.Context, call generated.Call, _ *generated.GetBootOptionsRequest) (*generated.GetBootOptionsReply, error) {
	reply := &generated.GetBootOptionsReply{}
	return reply, f.bios.View(ctx, call, func(tx *smm.Tx) error {
		o, err := f.options(tx)
		if err != nil {
			return err
		}
		reply.Version, reply.BootOrder = new(tx.Version()), references(o.order)
		for _, n := range o.sorted() {
			reply.BootOption = append(reply.BootOption, record(n, o.all[n]))
		}
		for name, to := range map[string]**generated.BootOptionReference{varNext: &reply.BootNext, varCurrent: &reply.BootCurrent} {
			n, err := f.one(tx, name)
			if err != nil {
				return err
			}
			if n != nil {
				*to = n.reference()
			}
		}
		timeout, err := f.one(tx, varTimeout)
		if err != nil {
			return err
		}
		if timeout != nil {
			reply.BootTimeoutSeconds = new(generated.BootTimeout(*timeout))
		}
		now, err := f.override(tx)
		reply.BootOverride = now.message()
		return err
	})
}

func references(order []number) (list []*generated.BootOptionReference) {
	for _, n := range order {
		list = append(list, n.reference())
	}
	return list
}

func record(n number, o option.Option) *generated.BootOption {
	r := &generated.BootOption{
		BootOptionReference: n.reference(), DisplayName: o.Description, BootOptionEnabled: o.Active, BootOptionHidden: o.Hidden, UefiDevicePath: o.Path,
	}
	if o.Target != "" {
		r.BootTarget = new(o.Target)
	}
	return r
}

// SetBootOrder writes BootOrder.
func (f *Function) SetBootOrder(ctx context.Context, call generated.Call, request *generated.SetBootOrderRequest) (*generated.SetBootOrderReply, error) {
	reply := &generated.SetBootOrderReply{}
	err := f.change(ctx, call, generated.OpSetBootOrder, request.Version, func(tx *smm.Tx) error {
		o, err := f.options(tx)
		if err != nil {
			return err
		}
		order, err := requested(o, request.BootOptionReference)
		if err != nil {
			return err
		}
		var value []byte
		for _, n := range order {
			value = binary.LittleEndian.AppendUint16(value, uint16(n))
		}
		if err := f.variables.SetGlobal(tx, varOrder, value); err != nil {
			return err
		}
		if !slices.Equal(o.order, order) {
			tx.Event(smm.Event{
				Severity: generated.EventSeverityOk, MessageID: "BiosV.1.0.BootOrderChanged", Message: "The boot order was set.",
				Changes: []smm.Change{{Name: varOrder, Old: told(o.order), New: told(order)}},
			})
		}
		reply.Version, reply.BootOrder = new(tx.Version()), references(order)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return reply, nil
}

// requested reads the order of a request.
func requested(o options, references []*generated.BootOptionReference) (order []number, err error) {
	for i, r := range references {
		path := fmt.Sprintf("/SetBootOrder/BootOptionReference[%d]", i+1)
		n, err := o.named(path, *r)
		if err != nil {
			return nil, err
		}
		if slices.Contains(order, n) {
			return nil, fault.InvalidRequest(fault.DuplicateItem, path, string(*r), "%s stands in the order twice.", *r)
		}
		order = append(order, n)
	}
	return order, nil
}

// named gives the number of an option that must be there.
func (o options) named(path string, r generated.BootOptionReference) (number, error) {
	n, _ := numberOf(string(r))
	if _, there := o.all[n]; !there {
		return n, fault.NotFound(fault.UnknownBootOption, path, string(r), "There is no boot option %s; GetBootOptions names those that are.", r)
	}
	return n, nil
}

// told is an order as the event log has it.
func told(order []number) *string {
	const most = 64
	var names []string
	for _, n := range order[:min(len(order), most)] {
		names = append(names, n.String())
	}
	if len(order) > most {
		names = append(names, fmt.Sprintf("and %d more", len(order)-most))
	}
	if len(names) == 0 {
		return nil
	}
	return new(strings.Join(names, " "))
}

// change changes what the next boot takes. While a machine acts, and so may be about to begin a boot, it is refused.
func (f *Function) change(ctx context.Context, call generated.Call, op *generated.Operation, version *generated.StateVersion, fn func(*smm.Tx) error) error {
	return f.bios.Change(ctx, call, op, func(tx *smm.Tx) error {
		if err := tx.Require(version); err != nil {
			return err
		}
		return fn(tx)
	})
}
