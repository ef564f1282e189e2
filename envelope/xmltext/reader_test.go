package xmltext_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"biosv/envelope/xmltext"
)

// Each limit lets through what it names, and refuses one more.
func TestLimitsAreExact(t *testing.T) {
	t.Parallel()
	tight := xmltext.Limits{Bytes: 400, Markup: 300, Depth: 4, Children: 5, Attributes: 9, NameBytes: 20, AttributeBytes: 30, TextBytes: 40, Namespaces: 6}
	nested := func(n int) string { return strings.Repeat("<a>", n) + strings.Repeat("</a>", n) }
	list := func(n int, format string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	spaces := func(n int, doc string) string { return doc + strings.Repeat(" ", n-len(doc)) }
	for _, c := range []struct {
		limit string
		most  int
		doc   func(n int) string
	}{
		{"Bytes", tight.Bytes, func(n int) string { return spaces(n, "<a/>") }},
		{"Markup", tight.Markup, func(n int) string { return "<a><!--" + strings.Repeat("x", n-10) + "--></a>" }},
		{"Depth", tight.Depth, nested},
		{"Children", tight.Children, func(n int) string { return "<a>" + strings.Repeat("<b/>", n) + "</a>" }},
		{"Attributes", tight.Attributes, func(n int) string { return "<a" + list(n, ` a%d=""`) + "/>" }},
		{"NameBytes", tight.NameBytes, func(n int) string { return "<" + strings.Repeat("a", n) + "/>" }},
		{"NameBytes", tight.NameBytes, func(n int) string { return "<p:" + strings.Repeat("a", n-2) + ` xmlns:p="u"/>` }},
		{"NameBytes", tight.NameBytes, func(n int) string { return "<a " + strings.Repeat("b", n) + `=""/>` }},
		{"AttributeBytes", tight.AttributeBytes, func(n int) string { return `<a b="` + strings.Repeat("c", n) + `"/>` }},
		{"AttributeBytes", tight.AttributeBytes, func(n int) string { return `<a b="&#65;` + strings.Repeat("c", n-5) + `"/>` }},
		{"AttributeBytes", tight.AttributeBytes, func(n int) string { return `<a xmlns='` + strings.Repeat("c", n) + `'/>` }},
		{"TextBytes", tight.TextBytes, func(n int) string { return "<a>" + strings.Repeat("x", n) + "</a>" }},
		{"TextBytes", tight.TextBytes, func(n int) string { return "<a>&#65;<![CDATA[" + strings.Repeat("x", n-1) + "]]></a>" }},
		{"TextBytes", tight.TextBytes, func(n int) string { return "<a>" + strings.Repeat("é", n/2) + strings.Repeat("x", n%2) + "</a>" }},
		{"Namespaces", tight.Namespaces, func(n int) string { return "<a" + list(n, ` xmlns:p%d="u"`) + "/>" }},
		{"Namespaces", tight.Namespaces, func(n int) string {
			return `<a xmlns:q="u"><b/><b xmlns:r="u"/><b` + list(n-1, ` xmlns:p%d="u"`) + "/></a>"
		}},
	} {
		if _, err := xmltext.Tree([]byte(c.doc(c.most)), tight); err != nil {
			t.Errorf("%s of %d: %v", c.limit, c.most, err)
		}
		_, err := xmltext.Tree([]byte(c.doc(c.most+1)), tight)
		var e *xmltext.SyntaxError
		if !errors.As(err, &e) || e.Code != xmltext.LimitExceeded || e.Limit != c.limit || e.Most != c.most {
			t.Errorf("%s of %d: %v", c.limit, c.most+1, err)
		}
	}
	// Of a binary value, neither the limit of texts nor that of markup counts.
	doc := "<v>" + strings.Repeat("QUJD", 90) + "</v>"
	r := xmltext.NewReader([]byte(doc), tight)
	defer r.Release()
	r.Root()
	if got := r.Base64("base64Binary"); r.Err() != nil || len(got) != 270 {
		t.Errorf("%d bytes, %v", len(got), r.Err())
	}
}

func TestErrorsSayWhere(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		doc, path string
		line      int
	}{
		{"", "", 1},
		{"\n\n<", "", 3},
		{"\r\n\r\r\n<1>", "", 4},
		{"<a>\n<b/>\n<b><c/></b>\n<b>\n<c>&x;</c></b></a>", "/a/b[3]/c", 5},
		{"<a><b/><c/><b>\n<1/></b></a>", "/a/b", 2},
		{"<a xmlns:p='u'>\n<p:b></p:c></a>", "/a/b", 2},
		{"<a>\n<b/>\n</a>\n<c/>", "", 4},
		{"<é>\n\n<ü>\x01</ü></é>", "", 3}, // characters are looked at first
	} {
		_, err := xmltext.Tree([]byte(c.doc), xmltext.DefaultLimits)
		var e *xmltext.SyntaxError
		if !errors.As(err, &e) || e.Path != c.path || e.Line != c.line {
			t.Errorf("%q: %v", c.doc, err)
			continue
		}
		if want := fmt.Sprintf("line %d", c.line); !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), c.path) {
			t.Errorf("%q: %v", c.doc, err)
		}
	}
}

// readPair reads what a schema of a sequence would: a First, some Second.
func readPair(doc string) (first string, second []string, err error) {
	r := xmltext.NewReader([]byte(doc), xmltext.DefaultLimits)
	defer r.Release()
	r.SetNamespace("u")
	if r.Root() {
		r.Open("Pair")
		if r.Need("First") {
			first = r.String("string")
		}
		for r.More("Second") {
			second = append(second, r.String("string"))
		}
		r.Close()
		r.EndDocument()
	}
	return first, second, r.Err()
}

func TestASequenceIsReadAsItsSchemaSays(t *testing.T) {
	t.Parallel()
	first, second, err := readPair(`<Pair xmlns="u"> <First>a</First><!-- --><Second/>&#32;<Second>b</Second> </Pair>`)
	if err != nil || first != "a" || strings.Join(second, ",") != ",b" {
		t.Errorf("%q %q %v", first, second, err)
	}
	for _, c := range []struct{ content, rule, path, expected, value string }{
		{``, "cvc-complex-type.2.4.b", "/Pair", "the element First", ""},
		{`<Second/>`, "cvc-complex-type.2.4.a", "/Pair", "the element First", "<Second>"},
		{`<First/><First/>`, "cvc-complex-type.2.4.a", "/Pair", "the end of Pair", "<First>"},
		{`<First/><Second/><x:Second xmlns:x="v"/>`, "cvc-complex-type.2.4.a", "/Pair", "the end of Pair", "<x:Second>"},
		{`x<First/>`, "cvc-complex-type.2.3", "/Pair", "an element, and no text,", "x"},
		{`<First/>x`, "cvc-complex-type.2.3", "/Pair", "an element, and no text,", "x"},
		{`<First/>&#120;`, "cvc-complex-type.2.3", "/Pair", "an element, and no text,", "x"},
		{`<First a="1"/>`, "cvc-complex-type.3.2.2", "/Pair/First", "no attribute", "a"},
		{`<First><a/></First>`, "cvc-type.3.1.2", "/Pair/First", "text only, no elements", ""},
		{`<First/><Second/><Second>a<b/></Second>`, "cvc-type.3.1.2", "/Pair/Second[2]", "text only, no elements", ""},
		{"x" + strings.Repeat("é", 200) + `<First/>`, "cvc-complex-type.2.3", "/Pair", "an element, and no text,", "x" + strings.Repeat("é", 127) + "…"},
	} {
		_, _, err := readPair(`<Pair xmlns="u">` + c.content + `</Pair>`)
		var e *xmltext.SchemaError
		if !errors.As(err, &e) || e.Rule != c.rule || e.Path != c.path || e.Expected != c.expected || e.Value != c.value || e.Line != 1 {
			t.Errorf("%s: %+v (%v)", c.content, e, err)
		}
	}
}

// White space in an attribute is normalised, but for what references stand for (XML 1.0 section 3.3.3).
func TestAttributesAreNormalised(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		`""`: "", `"a b"`: "a b", "\"a\tb\nc\"": "a b c", "\"a\r\nb\rc\r\n\r\n\"": "a b c  ", `"&#9;&#xA;&#13;"`: "\t\n\r", `'"'`: `"`, `"'&quot;&apos;&lt;>&amp;"`: `'"'<>&`, `" a  b "`: " a  b ",
	} {
		n, err := xmltext.Tree([]byte("<v a="+value+"/>"), xmltext.DefaultLimits)
		if err != nil || n.Attributes[0].Value != want {
			t.Errorf("%s is %q, %v", value, n.Attributes, err)
		}
	}
}

// xsi:type may say what is so anyway, by whatever prefix; xsi:nil nothing; everything else is no attribute of the contract's.
func TestAttributesOfSchemaInstances(t *testing.T) {
	t.Parallel()
	const head = `<Pair xmlns="u" xmlns:i="` + xmltext.InstanceNamespace + `" xmlns:x="` + xmltext.SchemaNamespace + `" xmlns:v="v" `
	for attributes, rule := range map[string]string{
		`i:type="Pair"`: "", `i:type=" Pair "`: "", `xmlns:p="u" i:type="p:Pair"`: "", `i:schemaLocation="u x.xsd" i:noNamespaceSchemaLocation="y"`: "",
		`i:type="v:Pair"`: "cvc-elt.4.3", `i:type="x:string"`: "cvc-elt.4.3", `i:type="w:Pair"`: "cvc-elt.4.3", `i:type=":Pair"`: "cvc-elt.4.3", `i:type="Pair:"`: "cvc-elt.4.3", `i:type=""`: "cvc-elt.4.3",
		`i:nil="false"`: "cvc-elt.3.1", `i:nil="1"`: "cvc-elt.3.1", `i:other="1"`: "cvc-complex-type.3.2.2", `type="Pair"`: "cvc-complex-type.3.2.2", `v:type="Pair"`: "cvc-complex-type.3.2.2", `xml:lang="en"`: "cvc-complex-type.3.2.2",
	} {
		_, _, err := readPair(head + attributes + `><First i:type="x:string"/></Pair>`)
		var e *xmltext.SchemaError
		if rule == "" && err != nil || rule != "" && (!errors.As(err, &e) || e.Rule != rule || e.Path != "/Pair") {
			t.Errorf("%s: %v", attributes, err)
		}
	}
	for value, ok := range map[string]bool{"x:string": true, "string": false, "v:string": false, "x:int": false, "x:String": false} {
		if _, _, err := readPair(head + `><First i:type="` + value + `"/></Pair>`); (err == nil) != ok {
			t.Errorf("%s: %v", value, err)
		}
	}
}

// The first error stays, and everything after it gives nothing.
func TestErrorsAreSticky(t *testing.T) {
	t.Parallel()
	r := xmltext.NewReader([]byte(`<v><a b="1">1</a><a>2</a></v>`), xmltext.DefaultLimits)
	defer r.Release()
	r.Root()
	r.Open("v")
	if !r.More("a") || r.Int64("int", 32) != 0 || r.Err() == nil {
		t.Fatalf("%v", r.Err())
	}
	first := r.Err()
	r.Open("v")
	r.Close()
	r.Skip()
	r.Invalid("x", "y", "z")
	if r.More("a") || r.Any() || r.Need("a") || r.NeedAny("a") || r.Child() || r.Root() || r.EndDocument() || r.Bool("boolean") || r.String("string") != "" || r.Text() != nil ||
		r.Uint64("x", 8) != 0 || r.Base64("x") != nil {
		t.Error("something was read after an error")
	}
	if at, zoned := r.DateTime("x"); zoned || !at.IsZero() {
		t.Error("a time was read after an error")
	}
	if r.Err() != first {
		t.Errorf("%v became %v", first, r.Err())
	}
}

// Reading where no element is open is a mistake of the program, and an error as others are.
func TestReadingOutsideOfAnElementIsAnError(t *testing.T) {
	t.Parallel()
	for name, do := range map[string]func(*xmltext.Reader){
		"Open":         func(r *xmltext.Reader) { r.Open("x") },
		"More":         func(r *xmltext.Reader) { r.More("x") },
		"Need":         func(r *xmltext.Reader) { r.Need("x") },
		"Any":          func(r *xmltext.Reader) { r.Any() },
		"Close":        func(r *xmltext.Reader) { r.Close() },
		"Skip":         func(r *xmltext.Reader) { r.Skip() },
		"Text":         func(r *xmltext.Reader) { r.Text() },
		"String":       func(r *xmltext.Reader) { r.String("string") },
		"Base64":       func(r *xmltext.Reader) { r.Base64("base64Binary") },
		"DateTime":     func(r *xmltext.Reader) { r.DateTime("dateTime") },
		"EndDocument":  func(r *xmltext.Reader) { r.EndDocument() },
		"a second end": func(r *xmltext.Reader) { r.Root(); r.Skip(); r.Close() },
		"a second root": func(r *xmltext.Reader) {
			r.Root()
			r.Skip()
			r.Root()
		},
		"an end too early": func(r *xmltext.Reader) { r.Root(); r.EndDocument() },
	} {
		r := xmltext.NewReader([]byte("<a/>"), xmltext.DefaultLimits)
		if space, local := r.Name(); space != nil || local != nil || r.Is("", "a") || r.HasElements() {
			t.Errorf("%s: before the root, %s is current", name, local)
		}
		if do(r); !errors.Is(r.Err(), xmltext.ErrNoElement) {
			t.Errorf("%s: %v", name, r.Err())
		}
		r.Release()
	}
}

// Readers are used again for other documents, and nothing of one document is in another.
func TestReadersOfManyDocumentsDoNotMix(t *testing.T) {
	t.Parallel()
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for n := range 200 {
				want := fmt.Sprintf("%d-%d", i, n)
				doc := "<v p:a='1' xmlns:p='u" + want + "'><w>&#" + fmt.Sprint('0'+i) + ";" + want[1:] + "</w></v>"
				if n%3 == 0 {
					doc = doc[:len(doc)-n%20]
				}
				r := xmltext.NewReader([]byte(doc), xmltext.DefaultLimits)
				if r.Root() && r.Any() {
					if got := r.String("string"); got != want && r.Err() == nil {
						t.Errorf("%s became %s", want, got)
					}
				}
				r.Release()
			}
		})
	}
	all.Wait()
}

func TestHasElementsTakesNothing(t *testing.T) {
	t.Parallel()
	for doc, want := range map[string]bool{
		"<v/>": false, "<v></v>": false, "<v> </v>": false, "<v>a</v>": false, "<v><a/></v>": true, "<v> <!-- a --> <a/></v>": true, "<v>a<b/></v>": false, "<v><![CDATA[a]]></v>": false,
		"<v><é/></v>": true, "<v><!-- a": false, "<v>": false, "<v><": false,
	} {
		r := xmltext.NewReader([]byte(doc), xmltext.DefaultLimits)
		r.Root()
		for range 2 {
			if got := r.HasElements(); got != want {
				t.Errorf("%s: %t", doc, got)
			}
		}
		r.Release()
	}
}
