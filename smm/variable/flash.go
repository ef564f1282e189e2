package variable

import (
	"context"
	"errors"
	"fmt"

	"biosv/fault"
	"biosv/generated"
	"biosv/smm"
	"biosv/smm/variable/efi"
	"biosv/smm/variable/flash"
	"biosv/smm/variable/services"
)

// kept gives the nonvolatile variables: those that flash keeps.
func kept(s *services.Services) (variables []flash.Variable, err error) {
	err = s.Scan(services.Key{}, func(k services.Key, v services.Variable) bool {
		if v.Attributes.Has(efi.NonVolatile) {
			variables = append(variables, flash.Variable{Key: k, Variable: v})
		}
		return true
	})
	return variables, err
}

// Render gives the flash for a start of the domain's machine, with the domain's nonvolatile variables: firmware reads
// it before it asks us. What the services take always fits.
func (f *Function) Render(tx *smm.Tx) ([]byte, error) {
	s, err := f.Services(tx, services.Boot)
	if err != nil {
		return nil, err
	}
	variables, err := kept(s)
	if err != nil {
		return nil, err
	}
	return flash.Render(variables)
}

// ExportVariables gives the flash of a start.
func (f *Function) ExportVariables(ctx context.Context, call generated.Call, _ *generated.ExportVariablesRequest) (*generated.ExportVariablesReply, error) {
	reply := &generated.ExportVariablesReply{}
	return reply, f.view(ctx, call, func(tx *smm.Tx, s *services.Services) error {
		variables, err := kept(s)
		if err != nil {
			return err
		}
		reply.Version, reply.VariableCount = new(tx.Version()), uint32(len(variables))
		reply.VariableStore, err = flash.Render(variables)
		return err
	})
}

// Import puts the variables of a flash in place of the domain's, by no rule but the room that there is, and begins a
// boot with them. It gives what was left out or looks odd, for people. Modes of Secure Boot that the flash does not
// know are left: with a platform key it is user mode, and without setup mode.
func (f *Function) Import(tx *smm.Tx, file []byte) (notes []string, err error) {
	i, err := f.read(tx.Domain.Name, file)
	if err != nil {
		return nil, err
	}
	_, err = f.replace(tx, i)
	return i.notes, err
}

// imported is a flash as a domain's state.
type imported struct {
	state fresh // after the start of a boot
	count int   // of nonvolatile variables
	notes []string
}

// errStore is in the errors of flashes that cannot be read.
var errStore = errors.New("damaged, or no variable store of OVMF")

// read makes the state of a flash. It needs no transaction: nothing of what was there before stays.
func (f *Function) read(domain string, file []byte) (*imported, error) {
	limits, err := f.limits(domain)
	if err != nil {
		return nil, err
	}
	store, err := flash.Parse(file)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errStore, err)
	}
	i := &imported{state: fresh{}, notes: store.Notes}
	s := &services.Services{State: i.state, Phase: services.Boot, Limits: limits}
	for _, v := range store.Variables {
		switch {
		case !v.Attributes.Has(efi.NonVolatile):
			i.notes = append(i.notes, fmt.Sprintf("%s is volatile, and left out", v.Key))
			continue
		case v.Attributes&efi.Reserved10 != 0:
			i.notes = append(i.notes, fmt.Sprintf("%s is authenticated by counter, which is no longer in the specification: nobody can change it", v.Key))
		}
		if err := s.Adopt(v.Key, v.Variable); err != nil {
			return nil, fmt.Errorf("import %s: %w", v.Key, err)
		}
		i.count++
	}
	return i, s.Start()
}

// replace puts what was imported in place of the domain's variables, and gives the event that tells of it.
func (f *Function) replace(tx *smm.Tx, i *imported) (e smm.Event, err error) {
	s, err := f.Services(tx, services.Boot)
	if err != nil {
		return e, err
	}
	was := fresh{}
	if err := s.State.Scan(services.Key{}, func(k services.Key, v services.Variable) bool {
		was[k] = v
		return true
	}); err != nil {
		return e, err
	}
	const mostTold = 100
	untold := 0
	tell := func(k services.Key, old, now *services.Variable) {
		if len(e.Changes) < mostTold {
			e.Changes = append(e.Changes, changeOf(k, old, now))
		} else {
			untold++
		}
	}
	for _, k := range was.keys() {
		if _, stays := i.state[k]; stays {
			continue
		}
		if err := s.State.Delete(k); err != nil {
			return e, err
		}
		tell(k, new(was[k]), nil)
	}
	for _, k := range i.state.keys() {
		old, there := was[k]
		if there && same(old, i.state[k]) {
			continue
		}
		if err := s.State.Put(k, i.state[k]); err != nil {
			return e, err
		}
		if there {
			tell(k, &old, new(i.state[k]))
		} else {
			tell(k, nil, new(i.state[k]))
		}
	}
	e.Severity, e.MessageID = generated.EventSeverityOk, eventImported
	e.Message = fmt.Sprintf("The variables were replaced by the %d of a variable store.", i.count)
	if untold > 0 {
		e.Message += fmt.Sprintf(" %d more changed than are told of.", untold)
	}
	return e, nil
}

// ImportVariables puts a flash in place of the variables of a machine that is off. A machine that runs has read its
// flash, and keeps variables of its own that no flash has: under it, nothing is replaced.
func (f *Function) ImportVariables(ctx context.Context, call generated.Call, request *generated.ImportVariablesRequest) (*generated.ImportVariablesReply, error) {
	if len(request.VariableStore) > flash.MaxSize {
		return nil, fault.LimitExceeded(fault.TooLarge, "VariableStore", flash.MaxSize, "The variable store is larger than %d bytes.", flash.MaxSize)
	}
	i, err := f.read(call.Domain, request.VariableStore)
	if errors.Is(err, errStore) {
		return nil, fault.Integrity(fault.DamagedStore, "/ImportVariables/VariableStore", "The file is %v.", err)
	} else if err != nil {
		return nil, refused(err)
	}
	m, err := f.bios.Machine(call.Domain)
	if err != nil {
		return nil, err
	}
	if err := off(ctx, m); err != nil {
		return nil, err
	}
	reply := &generated.ImportVariablesReply{VariableCount: uint32(i.count), ImportNote: i.notes}
	// Nobody starts the machine while this is under way.
	err = f.bios.Act(ctx, call, generated.OpImportVariables, smm.Action{
		Intend: func(tx *smm.Tx) error { return tx.Require(request.Version) },
		Act:    off,
		Conclude: func(tx *smm.Tx) error {
			e, err := f.replace(tx, i)
			if err != nil {
				return err
			}
			tx.Event(e)
			reply.Version = new(tx.Version())
			return nil
		},
	})
	if err != nil {
		return nil, err
	}
	return reply, nil
}

// off refuses a machine that is not off.
func off(ctx context.Context, m smm.Machine) error {
	state, err := m.Power(ctx)
	if err == nil && state != generated.PowerStateOff {
		err = fault.Conflict(fault.WrongPowerState, "The power is %s: variables are imported while the machine is off.", state)
	}
	return err
}
