package attribute

import (
	"slices"

	"biosv/fault"
	"biosv/generated"
)

// rule is a dependency, seen from the attribute that depends: while from has the value, the effect holds for it.
// An OrderedList has every value that stands in it; nobody knows what a Password has, so no rule of one holds.
type rule struct {
	from   *definition
	value  string
	effect generated.DependencyEffect
	left   []string // the values that a limit leaves
}

func newRule(d *generated.AttributeDependency, from, to *definition) rule {
	r := rule{from: from, value: canonical(from, d.MapFromValue), effect: *d.DependencyEffect}
	for _, v := range d.LimitedValue {
		r.left = append(r.left, canonical(to, v))
	}
	return r
}

// canonical is a value as it would be kept, or as it is where it is none of the attribute's.
func canonical(d *definition, value string) string {
	if kept, refusal := d.check([]string{value}); refusal == nil && len(kept) == 1 {
		return kept[0]
	}
	return value
}

// lookup gives the value that an attribute has, in a state that is or would be.
type lookup func(*definition) []string

func (r *rule) holds(of lookup) bool {
	return !r.from.secret() && slices.Contains(of(r.from), r.value)
}

// limits says whether the rule, where it holds, forbids a value.
func (r *rule) limits(value []string) bool {
	return r.effect == generated.DependencyEffectLimited && slices.ContainsFunc(value, func(v string) bool { return !slices.Contains(r.left, v) })
}

// hidden says whether the attribute is left out of a list of all: always, or as others are now.
func (d *definition) hidden(of lookup) bool {
	if d.Hidden {
		return true
	}
	for i := range d.rules {
		if d.rules[i].effect == generated.DependencyEffectHidden && d.rules[i].holds(of) {
			return true
		}
	}
	return false
}

// barred refuses to write an attribute that would be read-only or hidden in the state that the whole request would
// lead to.
func (d *definition) barred(value []string, after lookup) *generated.AttributeRefusal {
	for i := range d.rules {
		r := &d.rules[i]
		if r.effect == generated.DependencyEffectLimited || !r.holds(after) {
			continue
		}
		if r.effect == generated.DependencyEffectHidden {
			return d.refuse(fault.HiddenAttribute, value, "is hidden and cannot be written while %s is %s", r.from.Name, r.value)
		}
		return d.refuse(fault.ReadOnlyAttribute, value, "cannot be written while %s is %s", r.from.Name, r.value)
	}
	return nil
}

// limited refuses to give an attribute a value that it could not take in the state that the whole request would
// lead to, or that would leave another, which the request does not name, with such a value. A limit that was
// broken before, as one may be after an upgrade, is no reason to refuse what does not name the attribute.
func (d *definition) limited(value []string, before, after lookup, named func(*definition) bool) *generated.AttributeRefusal {
	if d.secret() {
		return nil
	}
	for i := range d.rules {
		if r := &d.rules[i]; r.limits(value) && r.holds(after) {
			return d.refuse(fault.ValueLimited, value, "takes only %s while %s is %s", listed(r.left), r.from.Name, r.value)
		}
	}
	for _, to := range d.mayLimit {
		if named(to) || to.secret() {
			continue
		}
		for i := range to.rules {
			if r := &to.rules[i]; r.from == d && r.limits(after(to)) && r.holds(after) && !r.holds(before) {
				return d.refuse(fault.ValueLimited, value, "cannot be %s while %s is %s, since that takes only %s then: change both in one request",
					r.value, to.Name, listed(after(to)), listed(r.left))
			}
		}
	}
	return nil
}
