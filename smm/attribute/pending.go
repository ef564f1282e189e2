package attribute

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"biosv/fault"
	"biosv/generated"
	"biosv/smm"
)

// Apply makes the values current that wait for a start, and gives those then in force. It is called before each
// start, also while the action that caused the start is under way. Where the machine has no registry, values wait
// on: which of them are right cannot be told.
func (f *Function) Apply(tx *smm.Tx) (smm.Settings, error) {
	v, r, err := f.values(tx)
	if err != nil {
		return nil, err
	}
	if r == nil || len(v.Pending) == 0 {
		return v.settings(), nil
	}
	next := v.clone()
	e := smm.Event{Severity: generated.EventSeverityOk, MessageID: eventApplied}
	s, err := readSecrets(tx)
	if err != nil {
		return nil, err
	}
	names := []string{}
	for _, d := range r.waiting(v) {
		value := v.Pending[d.Name].Value
		e.Changes = append(e.Changes, changeOf(d, v.current(d), value))
		names = append(names, d.Name)
		if next.put(d, value); d.secret() {
			s.apply(d.Name)
		}
	}
	e.Message = "The start made values current: " + listed(names) + "."
	if err := s.write(tx); err != nil {
		return nil, err
	}
	if err := r.save(tx, next); err != nil {
		return nil, err
	}
	tx.Event(e)
	return next.settings(), nil
}

// DiscardPendingAttributes takes pending values away: those named, each of which must have one, or all.
func (f *Function) DiscardPendingAttributes(ctx context.Context, call generated.Call, request *generated.DiscardPendingAttributesRequest) (*generated.DiscardPendingAttributesReply, error) {
	op := generated.OpDiscardPendingAttributes
	r, err := f.registry(call)
	if err != nil {
		return nil, err
	}
	permit, err := f.admit(ctx, call, op, request.AdministratorPassword)
	if err != nil {
		return nil, err
	}
	named, err := r.named(op, request.Name)
	if err != nil {
		return nil, err
	}
	reply := &generated.DiscardPendingAttributesReply{}
	c := change{op: op, version: request.Version, permit: permit, event: eventDiscarded, plan: &plan{}}
	c.decide = func(_ *smm.Tx, v *values) (*plan, error) {
		list := named
		if len(request.Name) == 0 {
			list = r.waiting(v)
		}
		p := &plan{}
		taken := make(map[*definition]bool, len(list))
		for i, d := range list {
			w, ok := v.Pending[d.Name]
			if !ok {
				return nil, fault.NotFound(fault.NotPending, fmt.Sprintf("/%s/Name[%d]", op.Name, i+1), d.Name,
					"No value of %s waits for the next start; GetPendingAttributes names those that do.", d.Name)
			}
			if !taken[d] {
				taken[d] = true
				p.steps = append(p.steps, step{&item{definition: d, value: v.current(d)}, withdrawn, w.Value})
			}
		}
		return p, p.leavesWhole(v, taken)
	}
	err = f.carryOut(ctx, call, r, &c, func(tx *smm.Tx, _ *values) {
		reply.Version = new(tx.Version())
		for _, s := range c.plan.steps {
			reply.Discarded = append(reply.Discarded, s.Name)
		}
	})
	if err != nil {
		return nil, err
	}
	return reply, nil
}

// leavesWhole refuses to take some of the pending values away and to leave others that need them.
func (p *plan) leavesWhole(v *values, taken map[*definition]bool) error {
	if len(taken) == len(v.Pending) {
		return nil
	}
	before := v.next
	after := func(d *definition) []string {
		if taken[d] {
			return v.current(d)
		}
		return v.next(d)
	}
	var refusals []*generated.AttributeRefusal
	for _, s := range p.steps {
		if refusal := s.limited(s.value, before, after, func(d *definition) bool { return taken[d] }); refusal != nil {
			refusals = append(refusals, refusal)
		}
	}
	if len(refusals) > 0 {
		return fault.InvalidAttribute("/DiscardPendingAttributes/Name", refusals)
	}
	return nil
}

// ResetAttributes sets every attribute that can be written to its default, whatever dependencies say: a set of
// defaults belongs together. Passwords stay.
func (f *Function) ResetAttributes(ctx context.Context, call generated.Call, request *generated.ResetAttributesRequest) (*generated.ResetAttributesReply, error) {
	op := generated.OpResetAttributes
	r, err := f.registry(call)
	if err != nil {
		return nil, err
	}
	c := change{op: op, version: request.Version, event: eventReset, decide: func(tx *smm.Tx, v *values) (*plan, error) {
		defaults := &values{}
		if *request.DefaultSet == generated.DefaultSetSaved {
			if defaults, err = readValues(tx, keySaved); err != nil {
				return nil, err
			}
			if defaults.raw == nil {
				return nil, fault.NotFound(fault.NoSavedDefaults, "/ResetAttributes/DefaultSet", string(*request.DefaultSet),
					"No defaults are saved: SaveDefaultAttributes saves the current values.")
			}
			r.prune(defaults)
		}
		var items []*item
		for _, d := range r.definitions {
			if d.writable() && !d.secret() {
				items = append(items, &item{definition: d, value: defaults.current(d)})
			}
		}
		return r.steps(tx, v, items, nil)
	}}
	if c.permit, err = f.admit(ctx, call, op, request.AdministratorPassword); err != nil {
		return nil, err
	}
	if c.plan, err = f.plan(ctx, call, r, &c); err != nil {
		return nil, err
	}
	reply := &generated.ResetAttributesReply{}
	err = f.carryOut(ctx, call, r, &c, func(tx *smm.Tx, v *values) {
		var changed []*definition
		for _, s := range c.plan.steps {
			changed = append(changed, s.definition)
		}
		reply.Version, reply.Attribute = new(tx.Version()), v.states(changed)
	})
	if err != nil {
		return nil, err
	}
	return reply, nil
}

// SaveDefaultAttributes keeps the current values as the saved defaults; those that wait are not among them.
func (f *Function) SaveDefaultAttributes(ctx context.Context, call generated.Call, request *generated.SaveDefaultAttributesRequest) (*generated.SaveDefaultAttributesReply, error) {
	op := generated.OpSaveDefaultAttributes
	r, err := f.registry(call)
	if err != nil {
		return nil, err
	}
	permit, err := f.admit(ctx, call, op, request.AdministratorPassword)
	if err != nil {
		return nil, err
	}
	reply := &generated.SaveDefaultAttributesReply{}
	err = f.bios.Change(ctx, call, op, func(tx *smm.Tx) error {
		if err := permit.require(tx); err != nil {
			return err
		}
		if err := tx.Require(request.Version); err != nil {
			return err
		}
		v, err := r.load(tx)
		if err != nil {
			return err
		}
		saved, err := readValues(tx, keySaved)
		if err != nil {
			return err
		}
		if saved.raw == nil || saved.Registry != r.digest || !maps.EqualFunc(saved.Current, v.Current, slices.Equal) {
			raw, err := json.Marshal(&values{Registry: r.digest, Current: v.Current})
			if err != nil {
				return fmt.Errorf("write the saved defaults of %s: %w", call.Domain, err)
			}
			tx.State(bucket).Put([]byte(keySaved), raw)
			tx.Event(smm.Event{Severity: generated.EventSeverityOk, MessageID: eventSaved, Message: "The current values are the saved defaults."})
		}
		reply.Version = new(tx.Version())
		return nil
	})
	if err != nil {
		return nil, err
	}
	return reply, nil
}
