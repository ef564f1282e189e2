package wsdl_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jacoelho/xsd"

	"biosv/envelope/xmltext"
	"biosv/generated"
	"biosv/internal/guest"
	"biosv/wsdl"
)

const ns = ` xmlns="urn:biosv:bios:v1"`

// libxml2 takes neither a sign nor white space around the unsigned types; XML Schema Part 2 (sections 3.3.21.1 and
// 4.3.6, second edition) allows both, and jacoelho/xsd agrees with it.
var refusedByLibxml2 = map[string]bool{"an optional number": true, "a plus sign": true, "minus zero": true}

// Each document, whether the schema allows it, and where ours refuses it. Two validators that are not ours judge
// the same documents: libxml2 and jacoelho/xsd.
var strictness = []struct {
	name, document string
	rule, path     string // empty: allowed
}{
	{"nothing asked for", `<GetAttributes` + ns + `/>`, "", ""},
	{"one name", `<GetAttributes` + ns + `><Name>AssetTag</Name></GetAttributes>`, "", ""},
	{"a prefix", `<x:GetAttributes xmlns:x="urn:biosv:bios:v1"><x:Name>A</x:Name></x:GetAttributes>`, "", ""},
	{"a comment and white space", "<GetAttributes" + ns + "> <!-- c -->\n<Name>A<!-- c -->B</Name></GetAttributes>", "", ""},
	{"CDATA in a string", `<GetAttributes` + ns + `><Name><![CDATA[<A>]]></Name></GetAttributes>`, "", ""},
	{"the type that it has anyway", `<GetAttributes` + ns + ` xmlns:i="http://www.w3.org/2001/XMLSchema-instance" xmlns:t="urn:biosv:bios:v1" i:type="t:GetAttributesRequest"/>`, "", ""},
	{"an optional number", `<GetEventLog` + ns + `><After>0</After><MostRecords> 7 </MostRecords></GetEventLog>`, "", ""},
	{"a plus sign", `<GetEventLog` + ns + `><After>+5</After></GetEventLog>`, "", ""},
	{"minus zero", `<GetEventLog` + ns + `><After>-0</After></GetEventLog>`, "", ""},
	{"an unknown child", `<GetAttributes` + ns + `><Nme>A</Nme></GetAttributes>`, "cvc-complex-type.2.4.a", "/GetAttributes"},
	{"a child in no namespace", `<x:GetAttributes xmlns:x="urn:biosv:bios:v1"><Name>A</Name></x:GetAttributes>`, "cvc-complex-type.2.4.a", "/GetAttributes"},
	{"children out of order", `<GetEventLog` + ns + `><MostRecords>7</MostRecords><After>0</After></GetEventLog>`, "cvc-complex-type.2.4.a", "/GetEventLog"},
	{"an element twice", `<GetEventLog` + ns + `><After>0</After><After>0</After></GetEventLog>`, "cvc-complex-type.2.4.a", "/GetEventLog"},
	{"a required element missing", `<ResetSystem` + ns + `/>`, "cvc-complex-type.2.4.b", "/ResetSystem"},
	{"a list that must not be empty", `<SetAttributes` + ns + `/>`, "cvc-complex-type.2.4.b", "/SetAttributes"},
	{"an unknown enumeration value", `<ResetSystem` + ns + `><ResetType>Sideways</ResetType></ResetSystem>`, "cvc-enumeration-valid", "/ResetSystem/ResetType"},
	{"white space around an enumeration value", `<ResetSystem` + ns + `><ResetType> On </ResetType></ResetSystem>`, "cvc-enumeration-valid", "/ResetSystem/ResetType"},
	{"a name against its pattern", `<DestroyDomain` + ns + `><Name>No_Domain</Name></DestroyDomain>`, "cvc-pattern-valid", "/DestroyDomain/Name"},
	{"a name that is too long", `<DestroyDomain` + ns + `><Name>` + strings.Repeat("a", 64) + `</Name></DestroyDomain>`, "cvc-maxLength-valid", "/DestroyDomain/Name"},
	{"a number too great", `<GetEventLog` + ns + `><MostRecords>1001</MostRecords></GetEventLog>`, "cvc-maxInclusive-valid", "/GetEventLog/MostRecords"},
	{"a number too small", `<GetEventLog` + ns + `><MostRecords>0</MostRecords></GetEventLog>`, "cvc-minInclusive-valid", "/GetEventLog/MostRecords"},
	{"a number beyond its bits", `<GetEventLog` + ns + `><After>18446744073709551616</After></GetEventLog>`, "cvc-datatype-valid.1.2.1", "/GetEventLog/After"},
	{"a negative number", `<GetEventLog` + ns + `><After>-1</After></GetEventLog>`, "cvc-datatype-valid.1.2.1", "/GetEventLog/After"},
	{"an underscore in a number", `<GetEventLog` + ns + `><After>1_0</After></GetEventLog>`, "cvc-datatype-valid.1.2.1", "/GetEventLog/After"},
	{"an empty number", `<GetEventLog` + ns + `><After/></GetEventLog>`, "cvc-datatype-valid.1.2.1", "/GetEventLog/After"},
	{"an attribute", `<GetAttributes` + ns + ` loud="1"/>`, "cvc-complex-type.3.2.2", "/GetAttributes"},
	{"an attribute on a simple element", `<GetAttributes` + ns + `><Name loud="1">A</Name></GetAttributes>`, "cvc-complex-type.3.2.2", "/GetAttributes/Name"},
	{"nil", `<GetEventLog` + ns + ` xmlns:i="http://www.w3.org/2001/XMLSchema-instance"><After i:nil="true"/></GetEventLog>`, "cvc-elt.3.1", "/GetEventLog/After"},
	{"another type", `<GetAttributes` + ns + ` xmlns:i="http://www.w3.org/2001/XMLSchema-instance" xmlns:t="urn:biosv:bios:v1" i:type="t:SetAttributesRequest"/>`, "cvc-elt.4.3", "/GetAttributes"},
	{"text between elements", `<GetAttributes` + ns + `>x<Name>A</Name></GetAttributes>`, "cvc-complex-type.2.3", "/GetAttributes"},
	{"an element in a string", `<GetAttributes` + ns + `><Name>A<b/></Name></GetAttributes>`, "cvc-type.3.1.2", "/GetAttributes/Name"},
	{"the second of two, wrong", `<SetAttributes` + ns + `><Attribute><Name>A</Name></Attribute><Attribute><NewValue>x</NewValue></Attribute></SetAttributes>`, "cvc-complex-type.2.4.a", "/SetAttributes/Attribute[2]"},
	{"an unknown element", `<Explode` + ns + `/>`, "cvc-elt.1", "/Explode"},
	{"an element of another namespace", `<GetAttributes xmlns="urn:other"/>`, "cvc-elt.1", "/GetAttributes"},
	{"bad base64", `<RestoreState` + ns + `><Archive>AAA</Archive></RestoreState>`, "cvc-datatype-valid.1.2.1", "/RestoreState/Archive"},
	{"base64 with white space", "<RestoreState" + ns + "><Archive>AA\nAA</Archive></RestoreState>", "", ""},
}

func TestDecoderAgreesWithTwoOtherValidators(t *testing.T) {
	d, err := wsdl.Published()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	schemaFile := filepath.Join(dir, wsdl.SchemaName)
	if err := os.WriteFile(schemaFile, d.Schema, 0o600); err != nil {
		t.Fatal(err)
	}
	engine, err := xsd.Compile(t.Context(), xsd.File(schemaFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range strictness {
		t.Run(c.name, func(t *testing.T) {
			r := xmltext.NewReader([]byte(c.document), xmltext.DefaultLimits)
			defer r.Release()
			r.Root()
			_, err := generated.DecodeRequest(r)
			if err == nil {
				r.EndDocument()
				err = r.Err()
			}
			var refusal *xmltext.SchemaError
			switch {
			case c.rule == "" && err != nil:
				t.Errorf("refused: %v", err)
			case c.rule != "" && !errors.As(err, &refusal):
				t.Errorf("not refused by the schema: %v", err)
			case c.rule != "" && (refusal.Rule != c.rule || !strings.HasPrefix(refusal.Path, c.path) || refusal.Line != 1):
				t.Errorf("refused by %s at %s, line %d; want %s at %s", refusal.Rule, refusal.Path, refusal.Line, c.rule, c.path)
			}
			other := engine.Validate(t.Context(), bytes.NewReader([]byte(c.document)))
			if (other == nil) != (c.rule == "") {
				t.Errorf("jacoelho/xsd: %v", other)
			}
			lint := exec.Command(guest.Tool(t, "xmllint"), "--noout", "--schema", schemaFile, "-")
			lint.Stdin = strings.NewReader(c.document)
			if out, err := lint.CombinedOutput(); (err == nil) != (c.rule == "" && !refusedByLibxml2[c.name]) {
				t.Errorf("xmllint: %v\n%s", err, out)
			}
		})
	}
}
