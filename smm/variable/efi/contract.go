package efi

import "biosv/generated"

// contractNames are the contract's names of attributes, in the order of their bits.
var contractNames = [...]generated.VariableAttribute{
	generated.VariableAttributeNonVolatile, generated.VariableAttributeBootServiceAccess, generated.VariableAttributeRuntimeAccess,
	generated.VariableAttributeHardwareErrorRecord, generated.VariableAttributeCounterAuthenticated, generated.VariableAttributeTimeBasedAuthenticated,
	generated.VariableAttributeAppendWrite, generated.VariableAttributeEnhancedAuthenticated,
}

// AttributesOf gives the attributes that the contract names.
func AttributesOf(names []*generated.VariableAttribute) (a Attributes) {
	for _, n := range names {
		for bit, known := range contractNames {
			if known == *n {
				a |= 1 << bit
			}
		}
	}
	return a
}

// Names are the contract's names of attributes; those that are not [Known] have none.
func (a Attributes) Names() (names []*generated.VariableAttribute) {
	for bit, known := range contractNames {
		if a&(1<<bit) != 0 {
			names = append(names, new(known))
		}
	}
	return names
}
