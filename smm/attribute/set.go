package attribute

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"biosv/fault"
	"biosv/generated"
	"biosv/smm"
)

// item is an attribute that a request names, with the value asked for as it would be kept.
type item struct {
	*definition
	value   []string
	digest  *digest // of a Password that is set; nil takes one away
	refusal *generated.AttributeRefusal
}

// removes says whether the item takes a Password away.
func (it *item) removes() bool { return it.secret() && it.value[0] == "" }

// SetAttributes changes attributes, all or none.
func (f *Function) SetAttributes(ctx context.Context, call generated.Call, request *generated.SetAttributesRequest) (*generated.SetAttributesReply, error) {
	op := generated.OpSetAttributes
	r, err := f.registry(call)
	if err != nil {
		return nil, err
	}
	items := r.read(request)
	c := change{op: op, version: request.Version, decide: func(tx *smm.Tx, v *values) (*plan, error) {
		return r.decide(tx, v, items, request.ApplyTime)
	}}
	if c.permit, err = f.admit(ctx, call, op, request.AdministratorPassword); err != nil {
		return nil, err
	}
	if c.plan, err = f.plan(ctx, call, r, &c); err != nil {
		return nil, err
	}
	if err := f.digest(ctx, items); err != nil {
		return nil, err
	}
	reply := &generated.SetAttributesReply{}
	err = f.carryOut(ctx, call, r, &c, func(tx *smm.Tx, v *values) {
		list := make([]*definition, len(items))
		for i, it := range items {
			list[i] = it.definition
		}
		reply.Version, reply.AttributeState = new(tx.Version()), v.states(list)
	})
	if err != nil {
		return nil, err
	}
	return reply, nil
}

// read judges each attribute of a request by its definition alone.
func (r *registry) read(request *generated.SetAttributesRequest) []*item {
	all := make([]item, len(request.Attribute))
	items := make([]*item, len(request.Attribute))
	seen := make(map[string]bool, len(request.Attribute))
	for i, a := range request.Attribute {
		it := &all[i]
		items[i], it.definition = it, r.byName[a.Name]
		switch {
		case it.definition == nil: // nor is the value told: it may be a secret under a misspelt name
			it.refusal = fault.Refusal(fault.UnknownAttribute, a.Name, nil, "There is no attribute %.100q; GetAttributeRegistry names those that are.", a.Name)
		case seen[a.Name]:
			it.refusal = it.refuse(fault.DuplicateItem, a.NewValue, "is named more than once")
		case it.Immutable:
			it.refusal = it.refuse(fault.ImmutableAttribute, a.NewValue, "never changes in the life of the machine")
		case it.ReadOnly:
			it.refusal = it.refuse(fault.ReadOnlyAttribute, a.NewValue, "tells a fact and cannot be written")
		default:
			it.value, it.refusal = it.check(a.NewValue)
			if it.refusal == nil && it.ResetRequired && request.ApplyTime != nil && *request.ApplyTime == generated.ApplyTimeImmediate {
				it.refusal = it.refuse(fault.ApplyTimeNotSupported, a.NewValue, "takes effect at the next start only: leave ApplyTime out, or ask for OnReset")
			}
		}
		seen[a.Name] = true
	}
	return items
}

// step is what becomes of one attribute.
type step struct {
	*item
	to   fate
	from []string // the value in force before, or where a pending one is withdrawn that
}

type fate int

const (
	inForce fate = iota
	pending
	withdrawn // the value asked for is in force, and a pending one is taken away
)

// plan is what a request does to the attributes of a domain.
type plan struct {
	steps []step
	acts  bool // the machine must take a value
}

// decide judges a request by the state, and says what it does.
func (r *registry) decide(tx *smm.Tx, v *values, items []*item, when *generated.ApplyTime) (*plan, error) {
	asked := make(map[*definition]*item, len(items))
	for _, it := range items {
		if it.refusal == nil {
			asked[it.definition] = it
		}
	}
	after := func(d *definition) []string {
		if it := asked[d]; it != nil {
			return it.value
		}
		return v.next(d)
	}
	isAsked := func(d *definition) bool { return asked[d] != nil }
	before := v.next
	var refusals []*generated.AttributeRefusal
	first := 0
	for i, it := range items {
		refusal := it.refusal
		if refusal == nil {
			if refusal = it.barred(it.value, after); refusal == nil {
				refusal = it.limited(it.value, before, after, isAsked)
			}
		}
		if refusal != nil {
			if refusals = append(refusals, refusal); len(refusals) == 1 {
				first = i + 1
			}
		}
	}
	if len(refusals) > 0 {
		return nil, fault.InvalidAttribute(fmt.Sprintf("/SetAttributes/Attribute[%d]", first), refusals)
	}
	return r.steps(tx, v, items, when)
}

// steps says what values do that nothing speaks against. Where when is nil, a value is in force at once if the
// attribute allows it.
func (r *registry) steps(tx *smm.Tx, v *values, items []*item, when *generated.ApplyTime) (*plan, error) {
	p := &plan{steps: make([]step, 0, len(items))}
	for _, it := range items {
		is, isNext, err := it.compare(tx, v)
		if err != nil {
			return nil, err
		}
		w, waits := v.Pending[it.Name]
		switch {
		case is && waits:
			p.steps = append(p.steps, step{it, withdrawn, w.Value})
		case is:
		case it.ResetRequired || when != nil && *when == generated.ApplyTimeOnReset:
			if !isNext {
				p.steps = append(p.steps, step{it, pending, v.current(it.definition)})
			}
		default:
			p.steps = append(p.steps, step{it, inForce, v.current(it.definition)})
			p.acts = p.acts || !it.secret()
		}
	}
	return p, nil
}

// compare says whether the value asked for is in force, and whether it waits. A Password that is set does neither:
// nobody can tell.
func (it *item) compare(tx *smm.Tx, v *values) (is, isNext bool, err error) {
	w, waits := v.Pending[it.Name]
	if !it.secret() {
		return slices.Equal(it.value, v.current(it.definition)), waits && slices.Equal(it.value, w.Value), nil
	}
	if !it.removes() {
		return false, false, nil
	}
	s, err := readSecrets(tx)
	return s.Current[it.Name] == nil, waits && s.Pending[it.Name] == nil, err
}

// change is a request for a change, ready to be decided in any transaction.
type change struct {
	op      *generated.Operation
	version *generated.StateVersion
	permit  permit
	decide  func(*smm.Tx, *values) (*plan, error)
	plan    *plan // as it was decided last
	event   string
}

// plan decides a change by the state as it is, to know whether the machine must act.
func (f *Function) plan(ctx context.Context, call generated.Call, r *registry, c *change) (p *plan, err error) {
	err = f.bios.View(ctx, call, func(tx *smm.Tx) error {
		p, _, err = r.judge(tx, c)
		return err
	})
	return p, err
}

// judge decides a change in a transaction.
func (r *registry) judge(tx *smm.Tx, c *change) (*plan, *values, error) {
	if err := c.permit.require(tx); err != nil {
		return nil, nil, err
	}
	if err := tx.Require(c.version); err != nil {
		return nil, nil, err
	}
	v, err := r.load(tx)
	if err != nil {
		return nil, nil, err
	}
	p, err := c.decide(tx, v)
	return p, v, err
}

// carryOut makes a change that was planned. It is judged anew in the transaction that counts, since others may
// have changed the state meanwhile. done is called in the transaction that ends it, with the values then.
func (f *Function) carryOut(ctx context.Context, call generated.Call, r *registry, c *change, done func(*smm.Tx, *values)) error {
	if c.plan.acts {
		return f.act(ctx, call, r, c, done)
	}
	return f.bios.Change(ctx, call, c.op, func(tx *smm.Tx) error {
		p, v, err := r.judge(tx, c)
		if err != nil {
			return err
		}
		if c.plan = p; p.acts { // another request put something else in force since
			refusal := fault.Conflict(fault.StaleVersion, "Another request changed the attributes at the same time: read them again and decide anew.")
			refusal.CurrentVersion = new(tx.Version())
			return refusal
		}
		return r.conclude(tx, c, p, v, done)
	})
}

// act lets the machine take the values before they count. What is written in the end is the plan that was
// intended, upon the values as they are then: a start in between may have made pending ones current.
func (f *Function) act(ctx context.Context, call generated.Call, r *registry, c *change, done func(*smm.Tx, *values)) error {
	var intended *values
	var settings, concluded smm.Settings
	err := f.bios.Act(ctx, call, c.op, smm.Action{
		Intend: func(tx *smm.Tx) (err error) {
			if c.plan, intended, err = r.judge(tx, c); err != nil {
				return err
			}
			settings = intended.with(c.plan, tx, "").settings()
			return nil
		},
		Act: func(ctx context.Context, m smm.Machine) error { return m.Configure(ctx, settings) },
		Conclude: func(tx *smm.Tx) error {
			v, err := r.load(tx)
			if err != nil {
				return err
			}
			moved := !bytes.Equal(v.raw, intended.raw)
			return r.conclude(tx, c, c.plan, v, func(tx *smm.Tx, v *values) {
				if done(tx, v); moved {
					concluded = v.settings()
				}
			})
		},
	})
	if err == nil && concluded != nil { // the machine has settings of before the start, or the start had those of before the change
		if err = r.machine.Configure(context.WithoutCancel(ctx), concluded); err != nil {
			err = fmt.Errorf("%s was carried out while the machine started, which must be started again: %w", c.op.Name, err)
		}
	}
	return err
}

// with gives the values that a plan leads to.
func (v *values) with(p *plan, tx *smm.Tx, by string) *values {
	if len(p.steps) == 0 {
		return v
	}
	next := v.clone()
	for _, s := range p.steps {
		switch s.to {
		case inForce:
			next.put(s.definition, s.value)
		case pending:
			w := waiting{At: tx.Now, By: by}
			if !s.secret() {
				w.Value = s.value
			}
			next.Pending[s.Name] = w
		case withdrawn:
			delete(next.Pending, s.Name)
		}
	}
	return next
}

// conclude writes what a plan does, with its event.
func (r *registry) conclude(tx *smm.Tx, c *change, p *plan, v *values, done func(*smm.Tx, *values)) error {
	next := v.with(p, tx, tx.Call.Principal.String())
	if len(p.steps) > 0 {
		if err := writeSecrets(tx, p); err != nil {
			return err
		}
		if err := r.save(tx, next); err != nil {
			return err
		}
		tx.Event(p.event(c.event))
	}
	done(tx, next)
	return nil
}
