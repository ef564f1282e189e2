package domain

import (
	"context"
	"errors"

	"biosv/fault"
	"biosv/generated"
	"biosv/smm"
)

// AttachDomain takes a machine over that people have. What can be interrupted leaves a domain that can be detached: the
// record comes first, then the variables, then the machine's own definition.
func (f *Function) AttachDomain(ctx context.Context, call generated.Call, request *generated.AttachDomainRequest) (*generated.AttachDomainReply, error) {
	name := ""
	if request.Name != nil {
		name = string(*request.Name)
	}
	found, err := f.bios.Examine(ctx, request.MachineAddress, name)
	if err != nil {
		return nil, err
	}
	d := found.Domain
	existing, err := f.bios.Domains(ctx)
	if err != nil {
		return nil, err
	}
	for _, e := range existing {
		if e.UUID == d.UUID {
			refusal := fault.Conflict(fault.AlreadyExists, "The machine is attached already: it is the domain %s.", e.Name)
			refusal.ElementPath, refusal.RefusedValue = "/AttachDomain/MachineAddress", request.MachineAddress
			return nil, refusal
		}
	}
	reply := &generated.AttachDomainReply{Difference: found.Redefinition.Difference, Note: found.Redefinition.Notes}
	if request.DryRun {
		return reply, nil
	}
	d.CreatedAt = f.bios.Now()
	if err := f.add(ctx, call, generated.OpAttachDomain, d, "attached: it is "+d.Attachment.Address); err != nil {
		return nil, err
	}
	notes, err := f.attach(ctx, call, found)
	if errors.Is(err, smm.ErrUnsettled) {
		return nil, err // as after an interruption
	}
	if err != nil {
		return nil, errors.Join(err, f.remove(context.WithoutCancel(ctx), call, generated.OpAttachDomain, d.Name, "let go of, since it could not be attached"))
	}
	reply.Note = append(reply.Note, notes...)
	if reply.Domain, err = f.describe(ctx, call, d); err != nil {
		return nil, err
	}
	return reply, nil
}

func (f *Function) attach(ctx context.Context, call generated.Call, found *smm.Found) (notes []string, err error) {
	if err := f.bios.OpenMachine(ctx, found.Domain); err != nil {
		return nil, err
	}
	call.Domain = found.Domain.Name
	return notes, f.bios.Act(ctx, call, generated.OpAttachDomain, smm.Action{
		Intend: func(tx *smm.Tx) error {
			notes, err = f.variables.Import(tx, found.Flash)
			return err
		},
		Act: func(ctx context.Context, m smm.Machine) error {
			a, ok := m.(smm.Attached)
			if !ok {
				return notAttached(found.Domain.Name)
			}
			return a.Attach(ctx, found)
		},
	})
}

// DetachDomain gives a machine back.
func (f *Function) DetachDomain(ctx context.Context, call generated.Call, request *generated.DetachDomainRequest) (*generated.DetachDomainReply, error) {
	name := string(*request.Name)
	if _, err := f.record(ctx, call, name); err != nil {
		return nil, err
	}
	m, err := f.bios.Machine(name)
	if err != nil {
		return nil, err
	}
	a, ok := m.(smm.Attached)
	if !ok {
		return nil, notAttached(name)
	}
	var given smm.Redefinition
	if request.DryRun {
		given, err = a.Detachment(ctx)
	} else {
		given, err = f.detach(ctx, call, a, name)
	}
	if err != nil {
		return nil, err
	}
	return &generated.DetachDomainReply{Name: request.Name, Difference: given.Difference, Note: given.Notes}, nil
}

func (f *Function) detach(ctx context.Context, call generated.Call, a smm.Attached, name string) (given smm.Redefinition, err error) {
	if err := off(ctx, a, "/DetachDomain/Name", name, "detached"); err != nil {
		return given, err
	}
	of := call
	of.Domain = name
	var flash []byte
	if err := f.bios.Act(ctx, of, generated.OpDetachDomain, smm.Action{
		Intend: func(tx *smm.Tx) error {
			flash, err = f.variables.Render(tx)
			return err
		},
		Act: func(ctx context.Context, _ smm.Machine) error {
			if given, err = a.Detach(ctx, flash); err != nil {
				return err
			}
			return nil
		},
	}); err != nil {
		return given, err
	}
	return given, f.remove(ctx, call, generated.OpDetachDomain, name, "detached")
}

func notAttached(name string) error {
	return fault.Conflict(fault.NotAttached, "The domain %s was not attached: nobody else has its machine. DestroyDomain takes it away.", name)
}
