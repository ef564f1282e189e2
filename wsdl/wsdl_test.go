package wsdl_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/beevik/etree"

	"biosv/internal/guest"
	"biosv/wsdl"
)

func TestPublishedCopyHoldsNothingThatIsNotForClients(t *testing.T) {
	d, err := wsdl.Published()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{"wsdl": d.WSDL, "schema": d.Schema} {
		for _, word := range []string{"appinfo", "bv:", wsdl.Annotations} {
			if strings.Contains(string(text), word) {
				t.Errorf("the published %s holds %q", name, word)
			}
		}
	}
	if !strings.Contains(string(wsdl.Schema), "bv:operation") {
		t.Error("the source holds no bv:operation: this test proves nothing")
	}
}

func TestServedCopyBearsTheAddressThatTheClientUsed(t *testing.T) {
	d, err := wsdl.At("https://bios.example:9443/bios/demo?a&b")
	if err != nil {
		t.Fatal(err)
	}
	doc := etree.NewDocument()
	if err := doc.ReadFromBytes(d.WSDL); err != nil {
		t.Fatal(err)
	}
	for _, a := range doc.FindElements("//address") {
		if got := a.SelectAttrValue("location", ""); got != "https://bios.example:9443/bios/demo?a&b" {
			t.Errorf("endpoint %q", got)
		}
	}
	if strings.Contains(string(d.WSDL), "localhost") {
		t.Error("the address of the source is still there")
	}
}

// The published schema must compile under libxml2 too, which is not the library that we validate with.
func TestSchemaCompilesUnderXmllint(t *testing.T) {
	d, err := wsdl.Published()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name string, text []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	schema := write(wsdl.SchemaName, d.Schema)
	good := write("good.xml", []byte(`<GetPowerState xmlns="urn:biosv:bios:v1"/>`))
	bad := write("bad.xml", []byte(`<GetPowerState xmlns="urn:biosv:bios:v1"><No/></GetPowerState>`))
	xmllint := guest.Tool(t, "xmllint")
	if out, err := exec.Command(xmllint, "--noout", "--schema", schema, good).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := exec.Command(xmllint, "--noout", "--schema", schema, bad).CombinedOutput(); err == nil {
		t.Errorf("an unknown child was taken\n%s", out)
	}
}

var plainTypes = map[string]bool{
	"xs:string": true, "xs:boolean": true, "xs:int": true, "xs:long": true, "xs:short": true, "xs:unsignedInt": true,
	"xs:unsignedLong": true, "xs:unsignedShort": true, "xs:unsignedByte": true, "xs:dateTime": true, "xs:base64Binary": true,
}

// Rules that keep generators of other languages happy; docs/contract.md gives the reasons.
func TestSchemaKeepsTheAuthoringRules(t *testing.T) {
	doc := etree.NewDocument()
	if err := doc.ReadFromBytes(wsdl.Schema); err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"choice", "all", "any", "group", "attribute", "attributeGroup", "complexContent", "extension", "list", "union"} {
		if e := doc.FindElement("//xs:" + word); e != nil {
			t.Errorf("xs:%s stands in %s", word, e.GetPath())
		}
	}
	names := map[string]string{}
	plain := regexp.MustCompile(`[.\- ]`)
	for _, e := range append(doc.Root().ChildElements(), doc.FindElements("//xs:sequence/xs:element")...) {
		name := e.SelectAttrValue("name", "")
		folded := plain.ReplaceAllString(strings.ToLower(name), "")
		if other, ok := names[folded]; ok && other != name {
			t.Errorf("%s and %s differ too little", name, other)
		}
		names[folded] = name
		if len(strings.TrimSpace(documentation(e))) == 0 {
			t.Errorf("%s has no documentation", e.GetPath())
		}
		if d := documentation(e); strings.ContainsAny(d, "\n") || strings.Contains(d, "*/") {
			t.Errorf("the documentation of %s breaks gowsdl: %q", name, d)
		}
		if typ := e.SelectAttrValue("type", ""); strings.HasPrefix(typ, "xs:") && !plainTypes[typ] {
			t.Errorf("%s is of %s, which not every generator compiles", name, typ)
		}
		if e.SelectAttr("nillable") != nil {
			t.Errorf("%s is nillable", name)
		}
		if most := e.SelectAttrValue("maxOccurs", "1"); most != "1" && most != "unbounded" {
			t.Errorf("%s: maxOccurs %s becomes a scalar in gowsdl", name, most)
		}
	}
	for _, v := range doc.FindElements("//xs:enumeration") {
		if !regexp.MustCompile(`^[A-Za-z][A-Za-z0-9]*$`).MatchString(v.SelectAttrValue("value", "")) {
			t.Errorf("enumeration value %q is no identifier", v.SelectAttrValue("value", ""))
		}
	}
	for _, w := range []string{"Class", "Default", "Type", "String", "Object", "Namespace", "Package", "Function", "Event", "List"} {
		if _, ok := names[strings.ToLower(w)]; ok {
			t.Errorf("%s is a reserved word of some language", w)
		}
	}
}

func documentation(e *etree.Element) string {
	if d := e.FindElement("./xs:annotation/xs:documentation"); d != nil {
		return d.Text()
	}
	return ""
}
