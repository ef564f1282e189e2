package uefi

import (
	"context"
	"errors"
	"sync"

	"github.com/google/uuid"

	"biosv/generated"
	"biosv/security"
	"biosv/service/uefi/frame"
	"biosv/smm/variable/efi"
)

// Boot is what a guest's machine is told of the boot that the guest is in.
type Boot interface {
	// Arrived is told before the first request of the firmware is answered: from now on it asks here.
	Arrived(ctx context.Context) error
	// ExitBootServices is told before the first request of the operating system is answered.
	ExitBootServices(ctx context.Context) error
	// ResetSystem is told that the guest asked its firmware for a reset, of an EFI_RESET_TYPE.
	ResetSystem(ctx context.Context, kind uint32) error
}

// Gate makes a guest's requests calls of the contract, and what comes back statuses of UEFI; it is the [Services] of a
// guest. What the contract has no words for is refused here.
type Gate struct {
	port   generated.Port
	guest  security.Principal
	domain string
	boot   Boot

	mu      sync.Mutex
	arrived bool
}

// NewGate makes the Services of a guest of a domain. Next is the gate that judges every call.
func NewGate(next generated.Handler, guest security.Principal, domain string, b Boot) *Gate {
	return &Gate{port: generated.HandlerPort(next), guest: guest, domain: domain, boot: b}
}

// phases are the phases' names in a call.
var phases = map[frame.Phase]security.Phase{frame.BootServices: security.PhaseBootServices, frame.OperatingSystem: security.PhaseOperatingSystem}

// call is a call that the guest makes, in a phase. The first of its firmware is told to the machine before.
func (g *Gate) call(ctx context.Context, phase frame.Phase) (generated.Call, error) {
	if phase == frame.BootServices {
		if err := g.arrive(ctx); err != nil {
			return generated.Call{}, err
		}
	}
	return Call(g.guest, g.domain, phase), nil
}

// Call is a call that the guest of a domain makes in a phase.
func Call(guest security.Principal, domain string, phase frame.Phase) generated.Call {
	return generated.Call{ID: uuid.NewString(), Principal: guest, Door: security.DoorUEFI, Phase: phases[phase], Domain: domain}
}

// arrive tells the machine, once, that its firmware asks here.
func (g *Gate) arrive(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.arrived {
		return nil
	}
	if err := g.boot.Arrived(ctx); err != nil {
		return err
	}
	g.arrived = true
	return nil
}

// unknownVariable is the code of a NotFoundFault that means EFI_NOT_FOUND; others say that there is no such domain.
const unknownVariable = "UnknownVariable"

// statusOf gives the status that a fault means; an error that means none stays.
func statusOf(err error) error {
	var refused *generated.UefiFault
	var missing *generated.NotFoundFault
	var denied *generated.AccessDeniedFault
	switch {
	case errors.As(err, &refused):
		if s, ok := efi.ParseStatus(refused.EfiStatus); ok {
			return frame.Status(s.Code())
		}
	case errors.As(err, &missing) && missing.Code == unknownVariable:
		return frame.NotFound
	case errors.As(err, &denied):
		return frame.SecurityViolation
	}
	return err
}

// GetVariable asks for a variable.
func (g *Gate) GetVariable(ctx context.Context, phase frame.Phase, v Variable) (uint32, []byte, error) {
	call, err := g.call(ctx, phase)
	if err != nil {
		return 0, nil, err
	}
	name, vendor := nameOf(v)
	reply, err := g.port.GetVariable(ctx, call, &generated.GetVariableRequest{Name: name, VendorGuid: vendor})
	if err != nil {
		return 0, nil, statusOf(err)
	}
	return uint32(efi.AttributesOf(reply.Variable.VariableAttribute)), reply.VariableData, nil
}

// GetNextVariableName asks for the variable behind one, which must be there (UEFI 2.10, 8.2.2).
func (g *Gate) GetNextVariableName(ctx context.Context, phase frame.Phase, v Variable) (next Variable, err error) {
	call, err := g.call(ctx, phase)
	if err != nil {
		return next, err
	}
	request := &generated.ListVariablesRequest{MostVariables: new(generated.RecordLimit(1))}
	if v.Name != "" {
		request.AfterName, request.AfterVendorGuid = nameOf(v)
		_, err := g.port.GetVariable(ctx, call, &generated.GetVariableRequest{Name: request.AfterName, VendorGuid: request.AfterVendorGuid})
		if err := statusOf(err); errors.Is(err, frame.NotFound) {
			return next, frame.InvalidParameter
		} else if err != nil {
			return next, err
		}
	}
	reply, err := g.port.ListVariables(ctx, call, request)
	if err != nil {
		return next, statusOf(err)
	}
	if len(reply.Variable) == 0 {
		return next, frame.NotFound
	}
	first := reply.Variable[0]
	if next.Name, err = efi.UnescapeName(string(*first.Name)); err != nil {
		return next, err
	}
	next.Vendor, err = uuid.Parse(string(*first.VendorGuid))
	return next, err
}

// SetVariable asks for a change. Without attributes it is a deletion: "Setting a data variable with no access
// attributes causes it to be deleted" (UEFI 2.10, 8.2.3).
func (g *Gate) SetVariable(ctx context.Context, phase frame.Phase, v Variable, attributes uint32, data []byte) error {
	a := efi.Attributes(attributes)
	if a&^efi.Known != 0 {
		return frame.InvalidParameter // reserved bits, for which the contract has no words
	}
	call, err := g.call(ctx, phase)
	if err != nil {
		return err
	}
	name, vendor := nameOf(v)
	if a == 0 {
		_, err = g.port.DeleteVariable(ctx, call, &generated.DeleteVariableRequest{Name: name, VendorGuid: vendor})
	} else {
		_, err = g.port.SetVariable(ctx, call, &generated.SetVariableRequest{Name: name, VendorGuid: vendor, VariableAttribute: a.Names(), VariableData: data})
	}
	return statusOf(err)
}

// QueryVariableInfo asks how much room there is.
func (g *Gate) QueryVariableInfo(ctx context.Context, phase frame.Phase, attributes uint32) (Info, error) {
	a := efi.Attributes(attributes)
	if a == 0 || a&^efi.Known != 0 {
		return Info{}, frame.InvalidParameter // "An invalid combination of attribute bits was supplied."
	}
	call, err := g.call(ctx, phase)
	if err != nil {
		return Info{}, err
	}
	reply, err := g.port.QueryVariableInfo(ctx, call, &generated.QueryVariableInfoRequest{VariableAttribute: a.Names()})
	if err != nil {
		return Info{}, statusOf(err)
	}
	return Info{Maximum: reply.MaximumVariableStorageSize, Remaining: reply.RemainingVariableStorageSize, Largest: reply.MaximumVariableSize}, nil
}

// ExitBootServices tells the machine.
func (g *Gate) ExitBootServices(ctx context.Context) error { return g.boot.ExitBootServices(ctx) }

// ResetSystem tells the machine.
func (g *Gate) ResetSystem(ctx context.Context, _ frame.Phase, r Reset) error {
	return g.boot.ResetSystem(ctx, r.Type)
}

func nameOf(v Variable) (*generated.VariableName, *generated.VendorGuid) {
	return new(generated.VariableName(efi.EscapeName(v.Name))), new(generated.VendorGuid(v.Vendor.String()))
}
