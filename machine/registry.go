package machine

import (
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
