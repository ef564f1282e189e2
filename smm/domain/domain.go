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

// Function answers [generated.DomainPort].
type Function struct{ bios *smm.BIOS }

// New makes the function.
func New(b *smm.BIOS) *Function { return &Function{b} }

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
	call.Domain = d.Name
	if err := f.bios.View(ctx, call, func(tx *smm.Tx) error { *m.Version = tx.Version(); return nil }); err != nil {
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
	if *request.DomainKind == generated.DomainKindPrivileged {
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
	if existing, err := f.bios.Domains(ctx); err != nil {
		return nil, err
	} else if len(existing) >= MostDomains {
		return nil, fault.LimitExceeded(fault.TooMany, "domains", MostDomains, "There are %d domains; no more are kept. Destroy one that is not needed.", len(existing))
	}
	if err := f.bios.Change(ctx, call, generated.OpCreateDomain, func(tx *smm.Tx) error {
		tx.Event(smm.Event{
			Severity: generated.EventSeverityOk, MessageID: "ResourceEvent.1.3.ResourceCreated", Message: "The domain " + d.Name + " was created.",
			Changes: []smm.Change{{Name: "Domain", New: &d.Name}},
		})
		return tx.AddDomain(d)
	}); err != nil {
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
	if m, err := f.bios.Machine(name); err == nil {
		state, err := m.Power(ctx)
		if err != nil {
			return nil, err
		}
		if state != generated.PowerStateOff {
			refusal := fault.Conflict(fault.DomainNotOff, "The domain %s is %s: turn it off before it is destroyed.", name, state)
			refusal.ElementPath, refusal.RefusedValue = "/DestroyDomain/Name", name
			return nil, refusal
		}
	}
	if err := f.bios.Change(ctx, call, generated.OpDestroyDomain, func(tx *smm.Tx) error {
		tx.Event(smm.Event{
			Severity: generated.EventSeverityOk, MessageID: "ResourceEvent.1.3.ResourceRemoved", Message: "The domain " + name + " was destroyed.",
			Changes: []smm.Change{{Name: "Domain", Old: &name}},
		})
		return tx.RemoveDomain(name)
	}); err != nil {
		return nil, err
	}
	if err := f.bios.CloseMachine(name); err != nil {
		return nil, err
	}
	return &generated.DestroyDomainReply{Name: request.Name}, nil
}
