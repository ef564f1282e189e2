package cli

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hooklift/gowsdl/soap"

	"biosv/generated"
)

// messages are all messages of the contract.
func messages() (list []generated.Message) {
	for _, op := range generated.Operations {
		list = append(list, op.NewRequest(), op.NewReply())
	}
	for _, f := range faults() {
		list = append(list, f)
	}
	return list
}

// faults are one of each kind of fault.
func faults() []generated.Fault {
	return []generated.Fault{
		new(generated.InvalidRequestFault), new(generated.InvalidAttributeFault), new(generated.NotFoundFault), new(generated.ConflictFault),
		new(generated.AccessDeniedFault), new(generated.AuthenticationRequiredFault), new(generated.LockedFault), new(generated.IntegrityFault),
		new(generated.UefiFault), new(generated.LimitExceededFault), new(generated.UnavailableFault), new(generated.InternalFault),
	}
}

func TestFaultsAreAllFaultsOfTheContract(t *testing.T) {
	t.Parallel()
	var got, want []string
	for _, f := range faults() {
		got = append(got, f.Info().Name)
	}
	for _, f := range generated.Faults {
		want = append(want, f.Name)
	}
	if !slices.Equal(got, want) {
		t.Errorf("the tests know the faults %q, and the contract %q", got, want)
	}
}

// same compares messages by what they say: a dateTime by its instant, and no list as an empty one.
var same = cmp.Options{
	cmpopts.EquateEmpty(),
	cmp.Comparer(func(a, b soap.XSDDateTime) bool { return a.ToGoTime().Equal(b.ToGoTime()) }),
}

func TestMessagesComeBackFromJSONAsTheyWere(t *testing.T) {
	t.Parallel()
	for _, s := range []size{minimal, maximal} {
		for _, m := range messages() {
			filled(m, s)
			name, _, err := shapeOf(m)
			if err != nil {
				t.Fatal(err)
			}
			text, err := MarshalJSON(m)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if !json.Valid(text) {
				t.Errorf("%s: this is no JSON: %s", name, text)
			}
			for _, r := range string(text) {
				if !unicode.IsPrint(r) {
					t.Errorf("%s: %q in %s", name, r, text)
				}
			}
			back := reflect.New(reflect.TypeOf(m).Elem())
			if err := unmarshal(text, name, back.Elem()); err != nil {
				t.Errorf("%s: %v in %s", name, err, text)
				continue
			}
			if diff := cmp.Diff(m, back.Interface(), same); diff != "" {
				t.Errorf("%s: what came back is another (-was +is):\n%s", name, diff)
			}
		}
	}
}

func TestJSONSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	for _, m := range messages() {
		name, _, _ := shapeOf(m)
		required := slices.ContainsFunc(generated.Types[name], func(f generated.Field) bool {
			return !f.Optional && !f.Many && (f.Kind == generated.Complex || f.Kind == generated.DateTime || f.Kind == generated.Enumeration)
		})
		if text, err := MarshalJSON(m); required && err == nil {
			t.Errorf("%s without what the contract requires is written as %s", name, text)
		}
	}
	for _, wrong := range []any{nil, 7, "text", (*generated.GetAttributesReply)(nil), struct{}{}} {
		if text, err := MarshalJSON(wrong); err == nil {
			t.Errorf("%#v is written as %s", wrong, text)
		}
	}
}

func TestWrongJSONIsRefusedWithWhatWouldBeRight(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, text, want string }{
		{"AttributeValue", `{"Name":"A"}`, ""},
		{"AttributeValue", `{"Name":"A","NewValue":["1","2"]}`, ""},
		{"AttributeValue", ``, "a JSON object of the type AttributeValue is expected"},
		{"AttributeValue", `[]`, "a JSON object of the type AttributeValue is expected"},
		{"AttributeValue", `{}`, "AttributeValue lacks Name"},
		{"AttributeValue", `{"Name":"A"} {}`, "one JSON object of the type AttributeValue is expected, and more follows it"},
		{"AttributeValue", `{"Name":"A"} ]`, "one JSON object of the type AttributeValue is expected, and more follows it"},
		{"AttributeValue", `{"Name":7}`, "AttributeValue.Name: text is expected"},
		{"AttributeValue", `{"Name":null}`, "AttributeValue.Name: text is expected"},
		{"AttributeValue", `{"Name":"A","NewValue":"1"}`, "AttributeValue.NewValue: an array is expected"},
		{"AttributeValue", `{"Name":"A","NewValue":[1]}`, "AttributeValue.NewValue: text is expected"},
		{"AttributeValue", `{"Name":"A","Value":"1"}`, `AttributeValue has no "Value"; it has Name, NewValue`},
		{"GetPowerStateReply", `{"PowerState":"Maybe"}`, "GetPowerStateReply.PowerState: On, Off, PoweringOn, PoweringOff or Paused is expected"},
		{"GetAuditLogRequest", `{"After":-1}`, "GetAuditLogRequest.After: a whole number from 0 to 18446744073709551615 is expected"},
		{"GetAuditLogRequest", `{"After":1.5}`, "GetAuditLogRequest.After: a whole number from 0 to 18446744073709551615 is expected"},
		{"GetAuditLogRequest", `{"After":"1"}`, "GetAuditLogRequest.After: a whole number is expected"},
		{"GetAuditLogRequest", `{"MostRecords":1001}`, "GetAuditLogRequest.MostRecords: at most 1000 is expected"},
		{"RestoreStateRequest", `{"Archive":"?"}`, "RestoreStateRequest.Archive: base64 is expected"},
		{"RestoreStateRequest", `{"Archive":7}`, "RestoreStateRequest.Archive: base64 is expected"},
		{"GetThermalReply", `{"Thermal":{"TakenAt":"today"}}`, "GetThermalReply.Thermal: ThermalReading.TakenAt: a time such as 2026-01-31T12:00:00Z is expected"},
		{"GetThermalReply", `{"Thermal":7}`, "GetThermalReply.Thermal: an object of the type ThermalReading is expected"},
	} {
		err := unmarshal([]byte(test.text), test.name, newOf(test.name))
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.HasPrefix(err.Error(), test.want)) {
			t.Errorf("%s %s: the error is %v, want %q", test.name, test.text, err, test.want)
		}
	}
}

// newOf makes a message, or a part of one, by the name of its type.
func newOf(name string) reflect.Value {
	if name == "AttributeValue" {
		return reflect.ValueOf(new(generated.AttributeValue)).Elem()
	}
	for _, m := range messages() {
		if v := reflect.ValueOf(m).Elem(); v.Type().Name() == name {
			return v
		}
	}
	panic("there is no message " + name)
}

// JSON is what --json prints, names and types as in the contract.
func TestJSONOfAnAnswer(t *testing.T) {
	t.Parallel()
	s := &service{answer: func(generated.Call, generated.Request) (generated.Reply, error) {
		return &generated.GetAttributesReply{Version: new(generated.StateVersion(1<<64 - 1)), Attribute: []*generated.AttributeState{
			{Name: "AssetTag", AttributeKind: new(generated.AttributeKindString), CurrentValue: []string{"<rack & 7>"}, Pending: true},
			{Name: "AdministratorPassword", AttributeKind: new(generated.AttributeKindPassword)},
		}}, nil
	}}
	o := s.ask(t, "attributes", "list", "--json")
	want := `{
  "Version": 18446744073709551615,
  "Attribute": [
    {
      "Name": "AssetTag",
      "AttributeKind": "String",
      "CurrentValue": [
        "<rack & 7>"
      ],
      "Pending": true,
      "PendingValue": []
    },
    {
      "Name": "AdministratorPassword",
      "AttributeKind": "Password",
      "CurrentValue": [],
      "Pending": false,
      "PendingValue": []
    }
  ]
}
`
	if o.out != want {
		t.Errorf("this was printed:\n%s\nand this expected:\n%s", o.out, want)
	}
}

func TestEveryAnswerIsPrintedAsJSON(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, c := range generated.Commands {
		args := shellWords(c.Example)
		for i, a := range args {
			if name, ok := strings.CutPrefix(a, "@"); ok {
				write(t, name, pemText)
			} else if a == "--file" {
				write(t, args[i+1], "")
			}
		}
		o := (&service{}).ask(t, append(args[1:], "--json")...)
		if !json.Valid([]byte(o.out)) || o.err != "" {
			t.Errorf("%s --json printed %q and on standard error %q", c.Example, o.out, o.err)
		}
	}
}

func FuzzUnmarshal(f *testing.F) {
	f.Add([]byte(`{"Name":"A","NewValue":["1"]}`))
	f.Add([]byte(`{"Thermal":{"TakenAt":"2026-01-31T12:00:00Z","Sensor":[{"Name":"x","Reading":-1}]}}`))
	f.Add([]byte(`{"Archive":"AAEC"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, name := range []string{"AttributeValue", "GetThermalReply", "RestoreStateRequest", "GetAuditLogRequest"} {
			v := newOf(name)
			if unmarshal(text, name, v) != nil {
				continue
			}
			once, err := MarshalJSON(v.Addr().Interface())
			if err != nil {
				t.Fatalf("%s was read from %q and cannot be written: %v", name, text, err)
			}
			again := newOf(name)
			if err := unmarshal(once, name, again); err != nil {
				t.Fatalf("%s was written as %s and cannot be read: %v", name, once, err)
			}
			if twice, err := MarshalJSON(again.Addr().Interface()); err != nil || !bytes.Equal(once, twice) {
				t.Fatalf("%s was written as %s and then as %s, %v", name, once, twice, err)
			}
		}
	})
}
