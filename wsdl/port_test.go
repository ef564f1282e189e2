package wsdl_test

import (
	"reflect"
	"strings"
	"testing"

	"biosv/generated"
)

// gowsdl and biosgen read the contract each for itself: both must find the same operations, with the same messages.
func TestPortHasTheOperationsOfGowsdlsInterface(t *testing.T) {
	port, bios := reflect.TypeFor[generated.Port](), reflect.TypeFor[generated.Bios]()
	theirs := map[string]reflect.Method{}
	for m := range bios.Methods() {
		if !strings.HasSuffix(m.Name, "Context") { // of each operation gowsdl makes a second method, with a context
			theirs[m.Name] = m
		}
	}
	for m := range port.Methods() {
		their, ok := theirs[m.Name]
		if !ok {
			t.Errorf("gowsdl's interface lacks %s", m.Name)
			continue
		}
		delete(theirs, m.Name)
		if ours, other := m.Type.In(2), their.Type.In(0); ours != other {
			t.Errorf("%s takes a %s, and gowsdl's a %s", m.Name, ours, other)
		}
		if ours, other := m.Type.Out(0), their.Type.Out(0); ours != other {
			t.Errorf("%s gives a %s, and gowsdl's a %s", m.Name, ours, other)
		}
	}
	for name := range theirs {
		t.Errorf("Port lacks %s", name)
	}
	if port.NumMethod() != len(generated.Operations) {
		t.Errorf("Port has %d operations, and the table %d", port.NumMethod(), len(generated.Operations))
	}
}
