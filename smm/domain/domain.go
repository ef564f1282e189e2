// Package domain lists, creates and destroys domains. A domain begins as a record in the store; its machine is
// opened by the core for the kind that the record names.
package domain

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"reflect"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/hooklift/gowsdl/soap"

	"biosv/fault"
	"biosv/generated"
	"biosv/smm"
)

// MostDomains bounds how many domains a service keeps.
const MostDomains = 4096

const longestDescription = 256

// Variables keeps the UEFI variables of domains, which a machine that is attached brings and takes along in a flash.
type Variables interface {
	// Import puts a flash's variables in place of the domain's, and says what is odd about it.
	Import(tx *smm.Tx, flash []byte) (notes []string, err error)
	// Render gives a flash with the domain's variables.
	Render(tx *smm.Tx) ([]byte, error)
}

// Function answers [generated.DomainPort].
type Function struct {
	bios      *smm.BIOS
	variables Variables
}

// New makes the function.
func New(b *smm.BIOS, v Variables) *Function { return &Function{b, v} }

var _ generated.DomainPort = (*Function)(nil)

// ListDomains lists the domains, the privileged one first.
func (f *Function) ListDomains(ctx context.Context, call generated.Call, _ *generated.ListDomainsRequest) (*generated.ListDomainsReply, error) {
	domains, err := f.bios.Domains(ctx)
	if err != nil {
		return nil, err
	}
	reply := &generated.ListDomainsReply{}
	for _, d := range domains {
		m, err := f.describe(ctx, call, d)
		if err != nil {
			return nil, err
		}
		reply.Domain = append(reply.Domain, m)
	}
	return reply, nil
}

// GetDomain describes the domain that the call names.
func (f *Function) GetDomain(ctx context.Context, call generated.Call, _ *generated.GetDomainRequest) (*generated.GetDomainReply, error) {
	var d smm.Domain
	if err := f.bios.View(ctx, call, func(tx *smm.Tx) error { d = tx.Domain; return nil }); err != nil {
		return nil, err
	}
	m, err := f.describe(ctx, call, d)
	if err != nil {
		return nil, err
	}
	return &generated.GetDomainReply{Domain: m}, nil
}

// describe observes the power too; where that cannot be done, it is absent.
func (f *Function) describe(ctx context.Context, call generated.Call, d smm.Domain) (*generated.Domain, error) {
	m := &generated.Domain{
		Name: new(generated.DomainName(d.Name)), DomainKind: new(d.Kind), SystemUuid: d.UUID, Description: d.Description,
		Address: "/bios/" + d.Name, CreatedAt: soap.CreateXsdDateTime(d.CreatedAt.UTC(), true), Version: new(generated.StateVersion),
	}
	m.VirtualMachine = d.VirtualMachine
	if d.Attachment != nil {
		m.MachineAddress = d.Attachment.Address
	}
	call.Domain = d.Name
	if err := f.bios.View(ctx, call, func(tx *smm.Tx) error { *m.Version, m.Diverged = tx.Version(), tx.Diverged(); return nil }); err != nil {
		return nil, err
	}
	if machine, err := f.bios.Machine(d.Name); err == nil {
		if state, err := machine.Power(ctx); err == nil {
			m.PowerState = &state
		}
	}
	return m, nil
}

// CreateDomain writes the record and opens the machine.
func (f *Function) CreateDomain(ctx context.Context, call generated.Call, request *generated.CreateDomainRequest) (*generated.CreateDomainReply, error) {
	switch *request.DomainKind {
	case generated.DomainKindLibvirt:
		return nil, fault.InvalidRequest(fault.InvalidValue, "/CreateDomain/DomainKind", string(*request.DomainKind),
			"A machine of libvirt is made in libvirt, and then attached (AttachDomain): create a domain of kind Simulated or Qemu.")
	case generated.DomainKindPrivileged:
		return nil, fault.InvalidRequest(fault.InvalidValue, "/CreateDomain/DomainKind", string(*request.DomainKind),
			"There is one privileged domain, and it is there already: create a domain of kind Simulated or Qemu.")
	}
	if n := utf8.RuneCountInString(request.Description); n > longestDescription {
		return nil, fault.InvalidRequest(fault.InvalidValue, "/CreateDomain/Description", request.Description,
			"The description has %d characters; at most %d are kept.", n, longestDescription)
	}
	d := smm.Domain{
		Name: string(*request.Name), Kind: *request.DomainKind, UUID: uuid.NewString(), Description: request.Description,
		Seed: seed(request), CreatedAt: f.bios.Now(),
	}
	var given bool
	d.VirtualMachine, given = definition(request)
	if err := f.bios.Define(&d, given); err != nil {
		return nil, err
	}
	if err := f.add(ctx, call, generated.OpCreateDomain, d, "created"); err != nil {
		return nil, err
	}
	if err := f.bios.OpenMachine(ctx, d); err != nil {
		return nil, err
	}
	m, err := f.describe(ctx, call, d)
	if err != nil {
		return nil, err
	}
	return &generated.CreateDomainReply{Domain: m}, nil
}

// add writes the record of a domain, for which there must be room.
func (f *Function) add(ctx context.Context, call generated.Call, op *generated.Operation, d smm.Domain, how string) error {
	existing, err := f.bios.Domains(ctx)
	if err != nil {
		return err
	}
	if len(existing) >= MostDomains {
		return fault.LimitExceeded(fault.TooMany, "domains", MostDomains, "There are %d domains; no more are kept. Destroy one that is not needed.", len(existing))
	}
	return f.bios.Change(ctx, call, op, func(tx *smm.Tx) error {
		tx.Event(smm.Event{
			Severity: generated.EventSeverityOk, MessageID: "ResourceEvent.1.3.ResourceCreated", Message: "The domain " + d.Name + " was " + how + ".",
			Changes: []smm.Change{{Name: "Domain", New: &d.Name}},
		})
		return tx.AddDomain(d)
	})
}

// remove takes a domain's record, with its state and its machine, away.
func (f *Function) remove(ctx context.Context, call generated.Call, op *generated.Operation, name, how string) error {
	if err := f.bios.Change(ctx, call, op, func(tx *smm.Tx) error {
		tx.Event(smm.Event{
			Severity: generated.EventSeverityOk, MessageID: "ResourceEvent.1.3.ResourceRemoved", Message: "The domain " + name + " was " + how + ".",
			Changes: []smm.Change{{Name: "Domain", Old: &name}},
		})
		return tx.RemoveDomain(name)
	}); err != nil {
		return err
	}
	return f.bios.CloseMachine(name)
}

// definition is what a request says of a virtual machine, if it says anything.
func definition(r *generated.CreateDomainRequest) (v *generated.VirtualMachine, given bool) {
	v = &generated.VirtualMachine{
		MemoryMiB: r.MemoryMiB, ProcessorCount: r.ProcessorCount, DiskImage: r.DiskImage, NetworkMode: r.NetworkMode,
		KernelImage: r.KernelImage, InitrdImage: r.InitrdImage, KernelArguments: r.KernelArguments,
		FirmwareBuild: r.FirmwareBuild, VirtualTpm: r.VirtualTpm,
	}
	return v, !reflect.DeepEqual(v, &generated.VirtualMachine{})
}

// seed is the request's, or one made from the name, so that a machine of the same name behaves the same.
func seed(request *generated.CreateDomainRequest) uint32 {
	if request.SimulationSeed != nil {
		return uint32(*request.SimulationSeed)
	}
	sum := sha256.Sum256([]byte(*request.Name))
	return binary.BigEndian.Uint32(sum[:])
}

// DestroyDomain takes the record, the state and the machine away. The machine must be off.
func (f *Function) DestroyDomain(ctx context.Context, call generated.Call, request *generated.DestroyDomainRequest) (*generated.DestroyDomainReply, error) {
	name := string(*request.Name)
	if name == smm.PrivilegedDomain {
		return nil, fault.Conflict(fault.PrivilegedStays, "The privileged domain is the host itself and cannot be destroyed.")
	}
	if d, err := f.record(ctx, call, name); err != nil {
		return nil, err
	} else if d.Attachment != nil {
		return nil, fault.Conflict(fault.StillAttached, "The domain %s is %s: detach it (DetachDomain), so that its machine gets back what is its own.", name, d.Attachment.Address)
	}
	if m, err := f.bios.Machine(name); err == nil {
		if err := off(ctx, m, "/DestroyDomain/Name", name, "destroyed"); err != nil {
			return nil, err
		}
	}
	if err := f.remove(ctx, call, generated.OpDestroyDomain, name, "destroyed"); err != nil {
		return nil, err
	}
	return &generated.DestroyDomainReply{Name: request.Name}, nil
}

// off refuses a machine that is not off.
func off(ctx context.Context, m smm.Machine, element, name, before string) error {
	state, err := m.Power(ctx)
	if err != nil || state == generated.PowerStateOff {
		return err
	}
	refusal := fault.Conflict(fault.DomainNotOff, "The domain %s is %s: turn it off before it is %s.", name, state, before)
	refusal.ElementPath, refusal.RefusedValue = element, name
	return refusal
}

// record gives the record of a domain.
func (f *Function) record(ctx context.Context, call generated.Call, name string) (d smm.Domain, err error) {
	call.Domain = name
	return d, f.bios.View(ctx, call, func(tx *smm.Tx) error { d = tx.Domain; return nil })
}
