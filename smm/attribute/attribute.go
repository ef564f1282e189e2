// Package attribute keeps the BIOS settings of a domain: attributes, as Redfish calls them (DSP0268, Bios and
// AttributeRegistry 1.3; Dell's DCIM_BIOS* and HP's HP_BIOSSetting* are the same thing). What attributes there are
// and which values they take is told by the machine, in its attribute registry, and by nothing else here; a
// machine that has none, such as the host's, has an empty registry, and every name is unknown.
//
// A change is all or nothing, and a refusal names every attribute that is wrong. A value that the machine takes
// while it runs is given to it at once ([smm.BIOS.Act]), and is kept when the machine has taken it. One that needs a
// reset, or that is asked for on the next reset, is pending: [Function.Apply], which runs before each start, makes
// it current. A value equal to the one in force takes a pending one away. A request that changes nothing is
// answered, raises no version and writes no event.
//
// Kept is only what differs from the default, so that a default that comes with an upgrade reaches those who
// never chose. Values that a registry does not allow any more count for nothing: the attribute has its default,
// and the next change drops them. Only an [smm.Opener], which runs before its machine can be asked for a registry,
// gets them as they are.
//
// What a machine's registry has as a default and nobody can write is a fact of the machine. One that changes, as
// whether Secure Boot is on, is kept by the function whose state it is, and asked of it ([Function.Tell]).
//
// Passwords are kept as digests, cannot be given back, and are not among the [smm.Settings]. That one which is
// named [AdministratorSecret] guards all changes made here.
package attribute

import (
	"context"
	"fmt"
	"sync"

	"github.com/hooklift/gowsdl/soap"

	"biosv/fault"
	"biosv/generated"
	"biosv/smm"
)

// Function answers [generated.AttributePort] and is the [smm.Configurer]. It is safe for concurrent use.
type Function struct {
	bios  *smm.BIOS
	turns chan struct{} // one at a time: digests of passwords are computed one after the other
	facts map[string]Fact

	mu         sync.RWMutex
	registries map[string]*registry // by domain
	sweepAt    int                  // number of registries at which those of machines that are gone are let go
}

// New makes the function, as the one that keeps the settings of the BIOS.
func New(b *smm.BIOS) *Function {
	f := &Function{bios: b, turns: make(chan struct{}, 1), facts: map[string]Fact{}, registries: map[string]*registry{}, sweepAt: 16}
	b.Configure(f)
	return f
}

// Fact gives the value that an attribute has in another function's state.
type Fact func(*smm.Tx) (string, error)

// Tell has an attribute of a name, where a machine has one that is read-only, told as another function's state has it
// at the time. It is called before the first request is.
func (f *Function) Tell(name string, fact Fact) { f.facts[name] = fact }

// tell fills in what others keep.
func (f *Function) tell(tx *smm.Tx, list []*generated.AttributeState) error {
	for _, s := range list {
		fact, ok := f.facts[s.Name]
		if !ok {
			continue
		}
		value, err := fact(tx)
		if err != nil {
			return err
		}
		s.CurrentValue = []string{value}
	}
	return nil
}

var (
	_ generated.AttributePort = (*Function)(nil)
	_ smm.Configurer          = (*Function)(nil)
)

// registry gives the registry of a domain's machine, made ready once while the machine is open.
func (f *Function) registry(call generated.Call) (*registry, error) {
	m, err := f.bios.Machine(call.Domain)
	if err != nil {
		return nil, err
	}
	return f.ready(call.Domain, m)
}

func (f *Function) ready(domain string, m smm.Machine) (*registry, error) {
	f.mu.RLock()
	r := f.registries[domain]
	f.mu.RUnlock()
	if r != nil && r.machine == m {
		return r, nil
	}
	r, err := newRegistry(m)
	if err != nil {
		return nil, fmt.Errorf("the machine of %s: %w", domain, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.registries[domain] = r
	if len(f.registries) >= f.sweepAt {
		for name, r := range f.registries {
			if m, err := f.bios.Machine(name); err != nil || m != r.machine {
				delete(f.registries, name)
			}
		}
		f.sweepAt = max(16, 2*len(f.registries))
	}
	return r, nil
}

// named gives the definitions that a request names, at an element of its.
func (r *registry) named(op *generated.Operation, names []string) ([]*definition, error) {
	list := make([]*definition, len(names))
	for i, name := range names {
		d := r.byName[name]
		if d == nil {
			return nil, fault.NotFound(fault.UnknownAttribute, fmt.Sprintf("/%s/Name[%d]", op.Name, i+1), name,
				"There is no attribute %q; GetAttributeRegistry names those that are.", name)
		}
		list[i] = d
	}
	return list, nil
}

// GetAttributes gives attributes with their current and pending values.
func (f *Function) GetAttributes(ctx context.Context, call generated.Call, request *generated.GetAttributesRequest) (*generated.GetAttributesReply, error) {
	r, err := f.registry(call)
	if err != nil {
		return nil, err
	}
	list, err := r.named(generated.OpGetAttributes, request.Name)
	if err != nil {
		return nil, err
	}
	reply := &generated.GetAttributesReply{}
	err = f.bios.View(ctx, call, func(tx *smm.Tx) error {
		v, err := r.load(tx)
		if err != nil {
			return err
		}
		if reply.Version = new(tx.Version()); len(list) == 0 {
			reply.Attribute = v.shown(r)
		} else {
			reply.Attribute = v.states(list)
		}
		return f.tell(tx, reply.Attribute)
	})
	if err != nil {
		return nil, err
	}
	return reply, nil
}

// shown gives the attributes that are not hidden, in the order of the registry.
func (r *registry) shown(v *values) []*definition {
	list, next := make([]*definition, 0, len(r.definitions)), v.next
	for _, d := range r.definitions {
		if !d.hidden(next) {
			list = append(list, d)
		}
	}
	return list
}

// GetAttributeRegistry gives what the machine tells of its attributes.
func (f *Function) GetAttributeRegistry(ctx context.Context, call generated.Call, _ *generated.GetAttributeRegistryRequest) (*generated.GetAttributeRegistryReply, error) {
	r, err := f.registry(call)
	if err != nil {
		return nil, err
	}
	return new(r.machine.Registry()), nil
}

// GetPendingAttributes gives the values that wait, hidden attributes' too: whoever set one must find it again.
func (f *Function) GetPendingAttributes(ctx context.Context, call generated.Call, _ *generated.GetPendingAttributesRequest) (*generated.GetPendingAttributesReply, error) {
	r, err := f.registry(call)
	if err != nil {
		return nil, err
	}
	reply := &generated.GetPendingAttributesReply{}
	err = f.bios.View(ctx, call, func(tx *smm.Tx) error {
		v, err := r.load(tx)
		if err != nil {
			return err
		}
		reply.Version = new(tx.Version())
		for _, d := range r.waiting(v) {
			w := v.Pending[d.Name]
			p := &generated.PendingAttribute{
				Name: d.Name, PendingValue: w.Value, ApplyTime: new(generated.ApplyTimeOnReset),
				RequestedAt: soap.CreateXsdDateTime(w.At.UTC(), true), RequestedBy: w.By,
			}
			if !d.secret() {
				p.CurrentValue = v.current(d)
			}
			reply.Attribute = append(reply.Attribute, p)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return reply, nil
}

// waiting gives the attributes whose values wait, in the order of the registry.
func (r *registry) waiting(v *values) (list []*definition) {
	if len(v.Pending) == 0 {
		return nil
	}
	for _, d := range r.definitions {
		if _, ok := v.Pending[d.Name]; ok {
			list = append(list, d)
		}
	}
	return list
}

// Settings gives the values in force that differ from their defaults; none of a Password.
func (f *Function) Settings(tx *smm.Tx) (smm.Settings, error) {
	v, _, err := f.values(tx)
	if err != nil {
		return nil, err
	}
	return v.settings(), nil
}

// values reads the values for a machine, which must get something: where there is no registry, because the machine
// is not open yet or contradicts itself, they are given as they are kept, and the registry is nil.
func (f *Function) values(tx *smm.Tx) (*values, *registry, error) {
	if m, err := f.bios.Machine(tx.Domain.Name); err == nil {
		if r, err := f.ready(tx.Domain.Name, m); err == nil {
			v, err := r.load(tx)
			return v, r, err
		}
	}
	v, err := readValues(tx, keyValues)
	return v, nil, err
}
