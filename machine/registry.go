package machine

import (
	"strconv"
	"strings"

	"biosv/generated"
)

// RegistryID names the attribute registry of a machine of a kind. It bears the domain's UUID, because the
// facts are in it and a registry of the same id is the same. The version changes with the kind's table.
func RegistryID(kind, uuid string) string {
	return "BiosV" + kind + "AttributeRegistry_" + strings.ReplaceAll(uuid, "-", "") + ".v1_0_0"
}

// PossibleValues makes the possible values of an attribute of pairs: as it is written, and as people read it.
func PossibleValues(pairs ...string) (list []*generated.PossibleValue) {
	for i := 0; i+1 < len(pairs); i += 2 {
		list = append(list, &generated.PossibleValue{ValueName: pairs[i], ValueDisplayName: pairs[i+1]})
	}
	return list
}

// Fact defines a number that cannot be changed.
func Fact(name, menu, display string, value uint32, help string) *generated.AttributeDefinition {
	return &generated.AttributeDefinition{
		Name: name, MenuGroup: menu, DisplayName: display, AttributeKind: new(generated.AttributeKindInteger), LowerBound: new(generated.IntegerBound(0)), UpperBound: new(generated.IntegerBound(1 << 32)),
		DefaultValue: []string{strconv.FormatUint(uint64(value), 10)}, ReadOnly: true, Immutable: true, HelpText: help,
	}
}

// SystemUUID defines the UUID by which a machine is known, which cannot be changed.
func SystemUUID(menu, uuid, help string) *generated.AttributeDefinition {
	return &generated.AttributeDefinition{
		Name: "SystemUuid", MenuGroup: menu, DisplayName: "System UUID", AttributeKind: new(generated.AttributeKindString), MaxLength: new(generated.LengthBound(36)),
		DefaultValue: []string{uuid}, ReadOnly: true, Immutable: true, HelpText: help,
	}
}
