package attribute

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"sync/atomic"

	"biosv/generated"
	"biosv/smm"
)

// registry is a machine's attribute registry, made ready for use: what a request needs is looked up, not searched.
type registry struct {
	machine     smm.Machine
	digest      string // of all that the registry says; values that were checked against it need no second look
	definitions []*definition
	byName      map[string]*definition
	last        atomic.Pointer[values] // those read last, good for as long as the store has the same bytes
}

// definition is an attribute's definition with what is derived of it.
type definition struct {
	*generated.AttributeDefinition
	kind     generated.AttributeKind
	possible map[string]bool
	pattern  *regexp.Regexp // nil where any text will do
	rules    []rule         // what other attributes do to this one
	mayLimit []*definition  // the attributes that depend on this one for their values
}

// writable says whether a request can change the attribute at all.
func (d *definition) writable() bool { return !d.ReadOnly && !d.Immutable }

func (d *definition) secret() bool { return d.kind == generated.AttributeKindPassword }

// newRegistry makes a registry of what a machine tells. A machine that contradicts itself is an error.
func newRegistry(m smm.Machine) (*registry, error) {
	told := m.Registry()
	r := &registry{machine: m, byName: make(map[string]*definition, len(told.Definition))}
	for _, d := range told.Definition {
		if d.AttributeKind == nil || r.byName[d.Name] != nil {
			return nil, fmt.Errorf("attribute registry %s: %q has no kind, or is defined twice", told.RegistryId, d.Name)
		}
		def := &definition{AttributeDefinition: d, kind: *d.AttributeKind, possible: make(map[string]bool, len(d.PossibleValue))}
		for _, v := range d.PossibleValue {
			def.possible[v.ValueName] = true
		}
		if d.ValueExpression != "" {
			pattern, err := regexp.Compile(`\A(?:` + d.ValueExpression + `)\z`)
			if err != nil {
				return nil, fmt.Errorf("attribute registry %s: the expression of %s: %w", told.RegistryId, d.Name, err)
			}
			def.pattern = pattern
		}
		r.definitions = append(r.definitions, def)
		r.byName[d.Name] = def
	}
	for _, d := range told.Dependency {
		from, to := r.byName[d.MapFromAttribute], r.byName[d.MapToAttribute]
		if from == nil || to == nil || d.DependencyEffect == nil {
			return nil, fmt.Errorf("attribute registry %s: the dependency of %q on %q names an attribute that is not defined, or no effect", told.RegistryId, d.MapToAttribute, d.MapFromAttribute)
		}
		to.rules = append(to.rules, newRule(d, from, to))
		if *d.DependencyEffect == generated.DependencyEffectLimited && !slices.Contains(from.mayLimit, to) {
			from.mayLimit = append(from.mayLimit, to)
		}
	}
	text, err := json.Marshal([]any{told.Definition, told.Dependency})
	if err != nil {
		return nil, fmt.Errorf("attribute registry %s: %w", told.RegistryId, err)
	}
	sum := sha256.Sum256(text)
	r.digest = hex.EncodeToString(sum[:16])
	return r, nil
}
