package attribute_test

import (
	"fmt"
	"testing"

	"biosv/generated"
)

// largeRegistry is as large as a server's: 200 attributes, of which 40 need no reset.
func largeRegistry() generated.GetAttributeRegistryReply {
	r := generated.GetAttributeRegistryReply{RegistryId: "Large.v1_0_0"}
	for i := range 200 {
		name := fmt.Sprintf("Attribute%03d", i)
		switch i % 5 {
		case 0:
			r.Definition = append(r.Definition, definition(name, generated.AttributeKindString, []string{""}, long(0, 63), expression("[A-Za-z0-9 ]*")))
		case 1:
			r.Definition = append(r.Definition, definition(name, generated.AttributeKindInteger, []string{"0"}, within(0, 1000), reset))
		case 2:
			r.Definition = append(r.Definition, definition(name, generated.AttributeKindBoolean, []string{"true"}, reset))
		default:
			r.Definition = append(r.Definition, definition(name, generated.AttributeKindEnumeration, []string{"Enabled"}, choice("Enabled", "Disabled"), reset))
		}
	}
	r.Dependency = append(r.Dependency, depends("Attribute004", "Attribute003", "Disabled", generated.DependencyEffectHidden))
	return r
}

func BenchmarkGetAttributes(b *testing.B) {
	s := newBIOS(b, largeRegistry())
	s.set(value("Attribute000", "x"), value("Attribute001", "5"))
	call, request := s.call(), &generated.GetAttributesRequest{}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.GetAttributes(b.Context(), call, request); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSetAttributes(b *testing.B) {
	for what, when := range map[string]*generated.ApplyTime{"Immediate": nil, "OnReset": new(generated.ApplyTimeOnReset)} {
		b.Run(what, func(b *testing.B) {
			s := newBIOS(b, largeRegistry())
			call, n := s.call(), 0
			b.ReportAllocs()
			for b.Loop() {
				n++
				request := &generated.SetAttributesRequest{ApplyTime: when}
				for i := range 20 {
					request.Attribute = append(request.Attribute, value(fmt.Sprintf("Attribute%03d", 5*i), fmt.Sprint(n)))
				}
				if _, err := s.SetAttributes(b.Context(), call, request); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAdministratorPassword(b *testing.B) {
	s := newBIOS(b, testRegistry())
	must(b, s.setSecret(right, ""))
	for b.Loop() {
		must(b, s.guess(right))
	}
}
