package sim

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"biosv/generated"
	"biosv/smm/power"
)

func definitionsByName(t *testing.T) map[string]*generated.AttributeDefinition {
	t.Helper()
	byName := map[string]*generated.AttributeDefinition{}
	for _, d := range registry(demo).Definition {
		if byName[d.Name] != nil {
			t.Errorf("%s is defined twice", d.Name)
		}
		byName[d.Name] = d
	}
	return byName
}

func isPossible(d *generated.AttributeDefinition, v string) bool {
	return slices.ContainsFunc(d.PossibleValue, func(p *generated.PossibleValue) bool { return p.ValueName == v })
}

// wrong says what a definition does not allow about a value, by Redfish AttributeRegistry 1.3.
func wrong(d *generated.AttributeDefinition, value []string) string {
	if *d.AttributeKind == generated.AttributeKindOrderedList {
		for i, v := range value {
			if !isPossible(d, v) || slices.Contains(value[:i], v) {
				return v + " is unknown or stands there twice"
			}
		}
		return ""
	}
	if len(value) != 1 {
		return "there is not one value"
	}
	v := value[0]
	switch *d.AttributeKind {
	case generated.AttributeKindEnumeration:
		if !isPossible(d, v) {
			return v + " is no possible value"
		}
	case generated.AttributeKindBoolean:
		if v != "true" && v != "false" {
			return v + " is no boolean"
		}
	case generated.AttributeKindInteger:
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < int64(*d.LowerBound) || n > int64(*d.UpperBound) {
			return v + " is out of bounds"
		}
		if d.ScalarIncrement != nil && (n-int64(*d.LowerBound))%int64(*d.ScalarIncrement) != 0 {
			return v + " is off the step"
		}
	case generated.AttributeKindString:
		if n := utf8.RuneCountInString(v); n > int(*d.MaxLength) || d.MinLength != nil && n < int(*d.MinLength) {
			return v + " has a wrong length"
		}
		if d.ValueExpression != "" && !regexp.MustCompile(`\A(?:`+d.ValueExpression+`)\z`).MatchString(v) {
			return v + " does not match"
		}
	}
	return ""
}

func TestRegistryIsWellFormed(t *testing.T) {
	t.Parallel()
	name := regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]+$`)
	byName := definitionsByName(t)
	if len(byName) < 20 || len(byName) > 30 {
		t.Errorf("%d attributes", len(byName))
	}
	for _, d := range byName {
		if !name.MatchString(d.Name) || strings.Contains(d.Name, "Password") {
			t.Errorf("%q is no name of an attribute", d.Name)
		}
		if d.DisplayName == "" || d.MenuGroup == "" || len(d.HelpText) < 20 || !strings.HasSuffix(d.HelpText, ".") {
			t.Errorf("%s lacks words for people: %q, %q, %q", d.Name, d.DisplayName, d.MenuGroup, d.HelpText)
		}
		if *d.AttributeKind == generated.AttributeKindPassword {
			if len(d.DefaultValue) != 0 {
				t.Errorf("%s has a default", d.Name)
			}
		} else if w := wrong(d, d.DefaultValue); w != "" {
			t.Errorf("the default of %s: %s", d.Name, w)
		}
		choice := *d.AttributeKind == generated.AttributeKindEnumeration || *d.AttributeKind == generated.AttributeKindOrderedList
		if choice != (len(d.PossibleValue) > 1) {
			t.Errorf("%s is of the kind %s and has %d possible values", d.Name, *d.AttributeKind, len(d.PossibleValue))
		}
		for _, v := range d.PossibleValue {
			if v.ValueName == "" || v.ValueDisplayName == "" {
				t.Errorf("%s has a possible value without a name", d.Name)
			}
		}
		if d.Immutable && !d.ReadOnly || d.ReadOnly && d.ResetRequired {
			t.Errorf("the flags of %s contradict each other", d.Name)
		}
	}
}

func TestDependenciesSpeakOfWhatThereIs(t *testing.T) {
	t.Parallel()
	byName := definitionsByName(t)
	for _, d := range registry(demo).Dependency {
		from, to := byName[d.MapFromAttribute], byName[d.MapToAttribute]
		if from == nil || to == nil || from == to {
			t.Errorf("%s depends on %s", d.MapToAttribute, d.MapFromAttribute)
			continue
		}
		if w := wrong(from, []string{d.MapFromValue}); w != "" {
			t.Errorf("%s never has the value on which %s depends: %s", from.Name, to.Name, w)
		}
		limited := *d.DependencyEffect == generated.DependencyEffectLimited
		if limited != (len(d.LimitedValue) > 0) {
			t.Errorf("the dependency of %s on %s is %s with %d values", to.Name, from.Name, *d.DependencyEffect, len(d.LimitedValue))
		}
		for _, v := range d.LimitedValue {
			if w := wrong(to, []string{v}); w != "" {
				t.Errorf("the limit of %s: %s", to.Name, w)
			}
		}
		// A default that a limit forbids would stand in the way of whoever changes nothing but the other attribute.
		if limited && !slices.Contains(d.LimitedValue, to.DefaultValue[0]) {
			t.Errorf("the limit of %s leaves out its default", to.Name)
		}
	}
}

func TestRegistryShowsEveryKindFlagAndEffect(t *testing.T) {
	t.Parallel()
	r := registry(demo)
	has := func(what string, fits func(*generated.AttributeDefinition) bool) {
		if !slices.ContainsFunc(r.Definition, fits) {
			t.Errorf("there is no %s", what)
		}
	}
	for _, kind := range []generated.AttributeKind{
		generated.AttributeKindEnumeration, generated.AttributeKindInteger, generated.AttributeKindString,
		generated.AttributeKindBoolean, generated.AttributeKindOrderedList, generated.AttributeKindPassword,
	} {
		has("writable "+string(kind), func(d *generated.AttributeDefinition) bool { return *d.AttributeKind == kind && !d.ReadOnly })
	}
	has("fact", func(d *generated.AttributeDefinition) bool { return d.ReadOnly && d.Immutable })
	has("hidden attribute that can be written", func(d *generated.AttributeDefinition) bool { return d.Hidden && !d.ReadOnly })
	has("attribute that needs a reset", func(d *generated.AttributeDefinition) bool { return d.ResetRequired })
	has("attribute that does not", func(d *generated.AttributeDefinition) bool { return !d.ResetRequired && !d.ReadOnly })
	has("step", func(d *generated.AttributeDefinition) bool { return d.ScalarIncrement != nil })
	has("expression", func(d *generated.AttributeDefinition) bool { return d.ValueExpression != "" })
	for _, effect := range []generated.DependencyEffect{generated.DependencyEffectReadOnly, generated.DependencyEffectHidden, generated.DependencyEffectLimited} {
		if !slices.ContainsFunc(r.Dependency, func(d *generated.AttributeDependency) bool { return *d.DependencyEffect == effect }) {
			t.Errorf("there is no dependency with the effect %s", effect)
		}
	}
}

// Clients that know no attribute by name try the first choice that waits for a start.
func TestFirstChoiceThatWaitsForAStartIsFreeByDefault(t *testing.T) {
	t.Parallel()
	r, byName := registry(demo), definitionsByName(t)
	i := slices.IndexFunc(r.Definition, func(d *generated.AttributeDefinition) bool {
		return d.ResetRequired && !d.ReadOnly && *d.AttributeKind == generated.AttributeKindEnumeration && len(d.PossibleValue) > 1
	})
	if i < 0 {
		t.Fatal("there is none")
	}
	for _, d := range r.Dependency {
		if d.MapToAttribute == r.Definition[i].Name && slices.Contains(byName[d.MapFromAttribute].DefaultValue, d.MapFromValue) {
			t.Errorf("%s depends on %s", d.MapToAttribute, d.MapFromAttribute)
		}
	}
}

func TestARegistryOfTheSameIDIsTheSame(t *testing.T) {
	t.Parallel()
	other := demo
	other.UUID = "7d0e4f5a-16ee-4a55-8f0b-6d9c1a0f3b22"
	if registry(demo).RegistryId == registry(other).RegistryId {
		t.Error("the facts of another machine have the same id")
	}
	if again := demo; registry(demo).RegistryId != registry(again).RegistryId {
		t.Error("the id of a machine's registry is not always the same")
	}
}

func TestPowerRestorePolicyIsWhatPowerRestoreReads(t *testing.T) {
	t.Parallel()
	d := definitionsByName(t)[power.RestorePolicy]
	if d == nil {
		t.Fatalf("there is no attribute %s", power.RestorePolicy)
	}
	for _, v := range []string{power.AlwaysOff, power.AlwaysOn, power.LastState} {
		if !isPossible(d, v) {
			t.Errorf("%s cannot be set", v)
		}
	}
	if len(d.PossibleValue) != 3 || d.DefaultValue[0] != power.LastState || d.ResetRequired {
		t.Errorf("%d values, default %v, needs a reset: %v", len(d.PossibleValue), d.DefaultValue, d.ResetRequired)
	}
}
