package xmltext_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/beevik/etree"
	"github.com/google/go-cmp/cmp"

	"biosv/envelope/xmltext"
	"biosv/testdata/envelopes"
	"biosv/testdata/hostile"
)

// seeds are the documents of the corpus that a fuzzer can make something of.
func seeds(f *testing.F) (all [][]byte) {
	f.Helper()
	attacks, err := hostile.Corpus()
	if err != nil {
		f.Fatal(err)
	}
	for _, a := range attacks {
		if text := a.Bytes(); !a.HTTP && len(text) < 8<<10 {
			all = append(all, text)
		}
	}
	for _, list := range []func() ([]envelopes.Message, error){envelopes.Requests, envelopes.Replies} {
		messages, err := list()
		if err != nil {
			f.Fatal(err)
		}
		for _, m := range messages {
			all = append(all, m.Envelope())
		}
	}
	return all
}

// other reads a document with another reader, which is laxer.
func other(doc []byte) (xmltext.Node, error) {
	d := etree.NewDocument()
	if err := d.ReadFromBytes(doc); err != nil {
		return xmltext.Node{}, err
	}
	if d.Root() == nil {
		return xmltext.Node{}, fmt.Errorf("there is no root")
	}
	return otherNode(d.Root()), nil
}

func otherNode(e *etree.Element) (n xmltext.Node) {
	n.Name = xmltext.Name{Space: e.NamespaceURI(), Local: e.Tag}
	for _, a := range e.Attr {
		space := a.NamespaceURI()
		if a.Space == "xmlns" || a.Space == "" && a.Key == "xmlns" {
			continue
		}
		if a.Space == "xml" {
			space = xmltext.XMLNamespace
		}
		n.Attributes = append(n.Attributes, xmltext.Attribute{Name: xmltext.Name{Space: space, Local: a.Key}, Value: a.Value})
	}
	for _, c := range e.Child {
		switch c := c.(type) {
		case *etree.CharData:
			if last := len(n.Children) - 1; last >= 0 && n.Children[last].Local == "" {
				n.Children[last].Text += c.Data
			} else if c.Data != "" {
				n.Children = append(n.Children, xmltext.Node{Text: c.Data})
			}
		case *etree.Element:
			n.Children = append(n.Children, otherNode(c))
		}
	}
	return n
}

// blanks makes one of what is white space in an attribute, which one reader normalises and another does not.
var blanks = strings.NewReplacer("\t", " ", "\n", " ", "\r", " ")

func spaced(n xmltext.Node) xmltext.Node {
	n.Attributes, n.Children = slices.Clone(n.Attributes), slices.Clone(n.Children)
	n.Space = blanks.Replace(n.Space)
	for i := range n.Attributes {
		n.Attributes[i].Space = blanks.Replace(n.Attributes[i].Space)
		n.Attributes[i].Value = blanks.Replace(n.Attributes[i].Value)
	}
	for i := range n.Children {
		n.Children[i] = spaced(n.Children[i])
	}
	return n
}

// write writes a tree with prefixes of its own.
func write(w *xmltext.Writer, n xmltext.Node) {
	if n.Local == "" {
		w.Text(n.Text)
		return
	}
	attributes := []string{"xmlns", n.Space}
	for i, a := range n.Attributes {
		switch a.Space {
		case "":
			attributes = append(attributes, a.Local, a.Value)
		case xmltext.XMLNamespace:
			attributes = append(attributes, "xml:"+a.Local, a.Value)
		default:
			prefix := fmt.Sprintf("n%d", i)
			attributes = append(attributes, "xmlns:"+prefix, a.Space, prefix+":"+a.Local, a.Value)
		}
	}
	if n.Space == xmltext.XMLNamespace {
		w.Start("xml", n.Local, attributes[2:]...)
	} else {
		w.Start("", n.Local, attributes...)
	}
	for _, c := range n.Children {
		write(w, c)
	}
	w.Close()
}

func isASCII(doc []byte) bool {
	return !slices.ContainsFunc(doc, func(c byte) bool { return c >= utf8.RuneSelf })
}

// generous are limits that no document of a fuzzer meets when it is written again.
var generous = xmltext.Limits{
	Bytes: 64 << 20, Markup: 64 << 20, Depth: 100, Children: 1 << 20, Attributes: 1000, NameBytes: 1 << 10, AttributeBytes: 1 << 20, TextBytes: 1 << 20, Namespaces: 1 << 20,
}

// What the reader accepts, another reader accepts too, and reads the same in it; and what the writer writes of it is read
// as the same.
func FuzzReader(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		got, err := xmltext.Tree(doc, xmltext.DefaultLimits)
		if err != nil {
			if len(err.Error()) > 16<<10 {
				t.Fatalf("an error of %d bytes", len(err.Error()))
			}
			return
		}
		switch want, err := other(doc); {
		case err == nil:
			if diff := cmp.Diff(spaced(want), spaced(got)); diff != "" {
				t.Fatalf("another reader reads otherwise: %s", diff)
			}
		case isASCII(doc): // the other has the names of an older edition of XML
			t.Fatalf("another reader refuses it: %v", err)
		}
		w := xmltext.NewWriter()
		defer w.Release()
		write(w, got)
		if err := w.Err(); err != nil {
			t.Fatalf("it cannot be written: %v", err)
		}
		again, err := xmltext.Tree(w.Bytes(), generous)
		if err != nil {
			t.Fatalf("it cannot be read again: %v\n%s", err, w.Bytes())
		}
		if diff := cmp.Diff(got, again); diff != "" {
			t.Fatalf("it is read otherwise again: %s\n%s", diff, w.Bytes())
		}
	})
}

// value reads the value of <v>text</v>.
func value[T any](markup string, read func(*xmltext.Reader) T) (T, error) {
	r := xmltext.NewReader([]byte("<v>"+markup+"</v>"), generous)
	defer r.Release()
	if !r.Root() {
		var none T
		return none, r.Err()
	}
	v := read(r)
	r.EndDocument()
	return v, r.Err()
}

// A binary value is what comes out when white space is taken out first and all is decoded at once.
func FuzzBase64(f *testing.F) {
	for _, s := range []string{"", "QUJD", "QUI=", "QQ==", "Q Q\t=\n=", "QR==", "QQ==QUJD", "Q", "QQ", "====", "QUJD=", "-_-_", strings.Repeat("QUJD", 600), strings.Repeat("QUJD", 256) + "QQ==" + "QUJD"} {
		f.Add(s, 3)
	}
	f.Fuzz(func(t *testing.T, text string, cut int) {
		if !utf8.ValidString(text) || strings.ContainsAny(text, "<&\r") || strings.Contains(text, "]]>") {
			return
		}
		want, wrong := base64.StdEncoding.Strict().DecodeString(strings.NewReplacer(" ", "", "\t", "", "\n", "").Replace(text))
		cut = min(max(cut, 0), len(text))
		for _, markup := range []string{text, "<![CDATA[" + text + "]]>", text[:cut] + "<!-- a -->" + text[cut:], text[:cut] + "<![CDATA[" + text[cut:] + "]]>"} {
			if !utf8.ValidString(markup) {
				continue // a character was cut
			}
			got, err := value(markup, func(r *xmltext.Reader) []byte { return r.Base64("base64Binary") })
			if (err == nil) != (wrong == nil) || err == nil && !bytes.Equal(got, want) {
				t.Fatalf("%q is read as %q, %v; want %q, %v", markup, got, err, want, wrong)
			}
		}
	})
}

// A time that is read is written as the same, and every time is read that Go reads of the same form.
func FuzzDateTime(f *testing.F) {
	for _, s := range []string{"2024-02-29T24:00:00Z", "2006-01-02T15:04:05.999999999-14:00", "0001-01-01T00:00:00", "9999-12-31T23:59:59.9Z", "2023-02-29T00:00:00Z", "2006-01-02t15:04:05z", "2006-01-02T15:04:05.Z"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, zoned, ok := xmltext.ParseDateTime(text)
		// Go takes a comma and a single digit where XML Schema does not.
		if want, err := time.Parse(time.RFC3339Nano, text); err == nil && !strings.Contains(text, ",") && text[12] != ':' {
			if y := want.UTC().Year(); y >= 1 && y <= 9999 && (!ok || !zoned || !got.Equal(want)) && !farZone(text) {
				t.Fatalf("%q is read as %s, %t; Go reads %s", text, got, ok, want)
			}
		}
		if !ok {
			return
		}
		w := xmltext.NewWriter()
		defer w.Release()
		w.DateTime("v", got)
		if err := w.Err(); err != nil {
			t.Fatal(err)
		}
		again, zoned, ok := xmltext.ParseDateTime(strings.TrimSuffix(strings.TrimPrefix(string(w.Bytes()), "<b:v>"), "</b:v>"))
		if !ok || !zoned || !again.Equal(got) {
			t.Fatalf("%q is written as %s", text, w.Bytes())
		}
	})
}

// farZone says whether a time is of a zone beyond 14 hours, which Go takes and XML Schema does not.
func farZone(text string) bool {
	zone := text[len(text)-6:]
	return zone[0] != 'Z' && zone[3] == ':' && zone[1:] > "14:00"
}
