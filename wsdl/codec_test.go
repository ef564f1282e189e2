package wsdl_test

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hooklift/gowsdl/soap"
	"github.com/jacoelho/xsd"

	"biosv/envelope/xmltext"
	"biosv/generated"
	"biosv/internal/guest"
	"biosv/wsdl"
)

// messages are all messages of the contract, empty.
func messages() (all []generated.Message) {
	for i := range generated.Operations {
		op := &generated.Operations[i]
		all = append(all, op.NewRequest(), op.NewReply())
	}
	return append(all, new(generated.InvalidRequestFault), new(generated.InvalidAttributeFault), new(generated.NotFoundFault),
		new(generated.ConflictFault), new(generated.AccessDeniedFault), new(generated.AuthenticationRequiredFault), new(generated.LockedFault),
		new(generated.IntegrityFault), new(generated.UefiFault), new(generated.LimitExceededFault), new(generated.UnavailableFault), new(generated.InternalFault))
}

func TestEveryFaultIsAMessageOfTheTest(t *testing.T) {
	tested := map[string]bool{}
	for _, m := range messages() {
		if f, ok := m.(generated.Fault); ok {
			tested[f.Info().Name] = true
		}
	}
	for _, f := range generated.Faults {
		if !tested[f.Name] {
			t.Errorf("%s is not tested", f.Name)
		}
	}
}

// filling says how a message is filled.
type filling int

const (
	zeros  filling = iota // every part there, every value zero
	absent                // every optional part left out
	most                  // every part there, at its greatest
)

func (f filling) String() string { return [...]string{"zeros", "absent", "most"}[f] }

// fill fills a struct of the contract by its shape.
func fill(v reflect.Value, typeName string, f filling) {
	for _, field := range generated.Types[typeName] {
		if field.Optional && f == absent {
			continue
		}
		fillField(v.FieldByName(field.Name), field, f)
	}
}

func fillField(v reflect.Value, field generated.Field, f filling) {
	if field.Many {
		n := map[filling]int{zeros: 1, absent: 1, most: 3}[f]
		list := reflect.MakeSlice(v.Type(), n, n)
		for i := range n {
			one := field
			one.Many = false
			fillField(list.Index(i), one, f)
		}
		v.Set(list)
		return
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	switch field.Kind {
	case generated.Complex:
		fill(v, field.Type, f)
	case generated.Enumeration:
		v.SetString(field.Values[map[filling]int{most: len(field.Values) - 1}[f]])
	case generated.Boolean:
		v.SetBool(f == most)
	case generated.Integer:
		fillInteger(v, f)
	case generated.Binary:
		if f == most {
			v.SetBytes(bytes.Repeat([]byte{0, 0xff, '<'}, 1000))
		} else {
			v.SetBytes([]byte{0})
		}
	case generated.DateTime:
		at := time.Unix(0, 0)
		if f == most {
			at = time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC)
		}
		v.Set(reflect.ValueOf(soap.CreateXsdDateTime(at.UTC(), true)))
	default:
		v.SetString(map[filling]string{most: "<&>\"'\r\n\t ]]> \U0010FFFF é x"}[f])
	}
	if c, ok := v.Interface().(interface{ Check() (string, string) }); ok {
		if rule, _ := c.Check(); rule != "" {
			v.SetString(map[string]string{
				"DomainName": "a" + strings.Repeat("9", 62), "OperatorName": "A" + strings.Repeat("_", 62),
				"VariableName": strings.Repeat("\U0010FFFF", 512), "VendorGuid": "8BE4df61-93ca-11d2-aa0d-00e098032b8c",
				"ImageName": "images/" + strings.Repeat("x", 248), "FirmwareBuild": "6" + strings.Repeat("-", 127),
				"BootOptionReference": "BootFFFF",
			}[field.Type])
		}
	}
}

// bounds are the least and the greatest values of types that have them.
var bounds = map[reflect.Type][2]uint64{
	reflect.TypeFor[generated.RecordLimit]():    {1, 1000},
	reflect.TypeFor[generated.FanPercent]():     {0, 100},
	reflect.TypeFor[generated.LengthBound]():    {0, 4096},
	reflect.TypeFor[generated.MemoryMiB]():      {64, 4 << 20},
	reflect.TypeFor[generated.ProcessorCount](): {1, 64},
	reflect.TypeFor[generated.BootTimeout]():    {0, 65535},
}

func fillInteger(v reflect.Value, f filling) {
	b, bounded := bounds[v.Type()]
	switch {
	case f != most && bounded:
		v.SetUint(b[0])
		return
	case f != most:
		return
	case bounded:
		v.SetUint(b[1])
		return
	}
	if v.CanUint() {
		v.SetUint(math.MaxUint64 >> (64 - v.Type().Bits()))
	} else {
		v.SetInt(math.MinInt64 >> (64 - v.Type().Bits()))
	}
}

func typeName(m generated.Message) string {
	name := reflect.TypeOf(m).Elem().Name()
	if _, ok := m.(generated.Fault); ok {
		return strings.TrimSuffix(name, "Fault") + "Detail"
	}
	return name
}

func decode(t *testing.T, m generated.Message, text []byte) (generated.Message, error) {
	t.Helper()
	limits := xmltext.DefaultLimits
	r := xmltext.NewReader(text, limits)
	defer r.Release()
	if !r.Root() {
		return nil, r.Err()
	}
	var got generated.Message
	var err error
	switch m := m.(type) {
	case generated.Request:
		got, err = generated.DecodeRequest(r)
	case generated.Reply:
		op := generated.Operations[0]
		for _, o := range generated.Operations {
			if o.Name+"Response" == m.ElementName() {
				op = o
			}
		}
		got, err = generated.DecodeReply(r, &op)
	default:
		got, err = generated.DecodeFault(r)
	}
	if err == nil {
		r.EndDocument()
		err = r.Err()
	}
	return got, err
}

func encode(m generated.Message) ([]byte, error) {
	w := xmltext.NewWriter()
	defer w.Release()
	generated.Encode(w, m)
	return bytes.Clone(w.Bytes()), w.Err()
}

// Required false, 0 and "" must be there, optional parts must not, and everything at its most must come back as
// it was; libxml2 and jacoelho/xsd judge what was written.
func TestEveryMessageSurvivesTheCodecAndIsValid(t *testing.T) {
	dir := t.TempDir()
	schema := filepath.Join(dir, wsdl.SchemaName)
	d, err := wsdl.Published()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(schema, d.Schema, 0o600); err != nil {
		t.Fatal(err)
	}
	engine, err := xsd.Compile(t.Context(), xsd.File(schema))
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, f := range []filling{zeros, absent, most} {
		for _, m := range messages() {
			fill(reflect.ValueOf(m).Elem(), typeName(m), f)
			text, err := encode(m)
			if err != nil {
				t.Errorf("%s of %s: %v", m.ElementName(), f, err)
				continue
			}
			got, err := decode(t, m, text)
			if err != nil {
				t.Errorf("%s of %s: %v\n%s", m.ElementName(), f, err, text)
				continue
			}
			again, err := encode(got)
			if err != nil || !bytes.Equal(text, again) {
				t.Errorf("%s of %s came back otherwise: %v\n%s\n%s", m.ElementName(), f, err, text, again)
			}
			if diff := cmp.Diff(m, got, cmp.Exporter(func(reflect.Type) bool { return true }), cmpopts.EquateEmpty(), cmpopts.EquateApproxTime(0)); diff != "" && f != zeros {
				t.Errorf("%s of %s: %s", m.ElementName(), f, diff)
			}
			if err := engine.Validate(t.Context(), bytes.NewReader(text)); err != nil {
				t.Errorf("%s of %s: jacoelho/xsd: %v\n%s", m.ElementName(), f, err, text)
			}
			path := filepath.Join(dir, fmt.Sprintf("%s-%s.xml", m.ElementName(), f))
			if err := os.WriteFile(path, text, 0o600); err != nil {
				t.Fatal(err)
			}
			files = append(files, path)
		}
	}
	if out, err := exec.Command(guest.Tool(t, "xmllint"), append([]string{"--noout", "--schema", schema}, files...)...).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, failing(out))
	}
	if len(files) < 3*len(messages()) {
		t.Errorf("%d files were judged; there are %d messages", len(files), len(messages()))
	}
}

func failing(out []byte) string {
	var b strings.Builder
	for line := range strings.Lines(string(out)) {
		if !strings.HasSuffix(strings.TrimSpace(line), "validates") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// The encoder refuses what the schema does not allow.
func TestEncoderRefusesWhatIsNotAllowed(t *testing.T) {
	for name, m := range map[string]generated.Message{
		"a required element that is missing":      &generated.ResetSystemRequest{},
		"a value that is no enumeration":          &generated.ResetSystemRequest{ResetType: new(generated.ResetType("Sideways"))},
		"a name that breaks its pattern":          &generated.DestroyDomainRequest{Name: new(generated.DomainName("Not A Name"))},
		"a number beyond its bound":               &generated.GetEventLogRequest{MostRecords: new(generated.RecordLimit(1001))},
		"a list that must not be empty":           &generated.SetAttributesRequest{},
		"a character that XML cannot hold":        &generated.GetAttributesRequest{Name: []string{"a\x00b"}},
		"bytes that are not UTF-8":                &generated.GetAttributesRequest{Name: []string{"\xff"}},
		"a nil where an element is wanted":        &generated.SetAttributesRequest{Attribute: []*generated.AttributeValue{nil}},
		"a structure that is required and absent": &generated.GetThermalReply{},
	} {
		if text, err := encode(m); err == nil {
			t.Errorf("%s was written: %s", name, text)
		}
	}
}
