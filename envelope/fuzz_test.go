package envelope_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jacoelho/xsd"

	"biosv/envelope"
	"biosv/envelope/xmltext"
	"biosv/generated"
	"biosv/wsdl"
)

// judge is a validator that is not ours, with an XML reader of its own, that knows requests in envelopes of both versions.
func judge(f *testing.F) *xsd.Engine {
	f.Helper()
	d, err := wsdl.Published()
	if err != nil {
		f.Fatal(err)
	}
	sources := []xsd.SchemaSource{xsd.Bytes(wsdl.SchemaName, d.Schema)}
	for _, v := range []envelope.Version{envelope.SOAP11, envelope.SOAP12} {
		sources = append(sources, xsd.Bytes("soap"+v.String()+".xsd", fmt.Appendf(nil, `<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" targetNamespace="%s" elementFormDefault="qualified">
			<xs:import namespace="%s"/>
			<xs:element name="Envelope"><xs:complexType><xs:sequence>
				<xs:element name="Header" minOccurs="0"><xs:complexType><xs:sequence><xs:any processContents="skip" minOccurs="0" maxOccurs="unbounded"/></xs:sequence><xs:anyAttribute processContents="skip"/></xs:complexType></xs:element>
				<xs:element name="Body"><xs:complexType><xs:sequence><xs:any namespace="%s" processContents="strict"/></xs:sequence><xs:anyAttribute processContents="skip"/></xs:complexType></xs:element>
			</xs:sequence><xs:anyAttribute processContents="skip"/></xs:complexType></xs:element>
		</xs:schema>`, v.Namespace(), wsdl.Namespace, wsdl.Namespace)))
	}
	engine, err := xsd.Compile(f.Context(), sources...)
	if err != nil {
		f.Fatal(err)
	}
	return engine
}

// What is read as a request is a request for another validator too, and is read as the same when it is written again.
func FuzzRead(f *testing.F) {
	engine := judge(f)
	for _, m := range requests(f) {
		f.Add(m.Envelope())
	}
	for _, a := range attacks(f) {
		if text := a.Bytes(); len(text) < 8<<10 {
			f.Add(text)
		}
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		e, a, m, err := read(doc)
		if e == nil {
			t.Fatal("there is no envelope")
		}
		if err != nil {
			if len(err.Error()) > 16<<10 {
				t.Fatalf("an error of %d bytes", len(err.Error()))
			}
			return
		}
		ascii := bytes.Contains(bytes.ToLower(doc), []byte("ascii")) // which the other does not know to be UTF-8
		if err := engine.Validate(t.Context(), bytes.NewReader(doc)); err != nil && !ascii {
			t.Fatalf("another validator refuses it: %v", err)
		}
		text, err := write(e.Version, m, a.Answer(m.Operation().Action))
		if err != nil {
			t.Fatalf("it cannot be written: %v", err)
		}
		again, b, n, err := read(text)
		if err != nil {
			t.Fatalf("it cannot be read again: %v\n%s", err, text)
		}
		if diff := cmp.Diff(m, n, exporter); diff != "" || again.Version != e.Version || (a.MessageID != "") != (b.MessageID != "") {
			t.Fatalf("it is read otherwise again: %s\n%s", diff, text)
		}
	})
}

// Whatever a service answers, the asking side ends with an answer, a fault or an error.
func FuzzReadReply(f *testing.F) {
	for _, m := range replies(f) {
		f.Add(m.Bytes)
	}
	for i := range generated.Operations {
		text, err := write(envelope.SOAP12, generated.Operations[i].NewRequest(), nil)
		if err == nil {
			f.Add(bytes.ReplaceAll(text, []byte(generated.Operations[i].Name), []byte(generated.Operations[i].Name+"Response")))
		}
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		for i := range generated.Operations {
			r := xmltext.NewReader(doc, limits)
			reply, err := envelope.ReadReply(r)
			var m generated.Message
			switch {
			case err != nil:
			case reply.Fault == nil:
				if m, err = generated.DecodeReply(r, &generated.Operations[i]); err == nil {
					err = reply.Finish(r)
				}
			case reply.HasDetail:
				m, err = generated.DecodeFault(r)
			}
			r.Release()
			if err != nil || m == nil {
				continue
			}
			if text, err := write(envelope.SOAP11, m, nil); err != nil {
				t.Fatalf("%T was read and cannot be written: %v\n%s", m, err, text)
			}
			return
		}
	})
}

// An action is what the header names, and in SOAP 1.2 what the media type's parameter names.
func FuzzAction(f *testing.F) {
	for _, s := range []string{``, `""`, `"a"`, `a`, ` "a" `, `"`, `"a`, `"a"b"`} {
		f.Add(s, "b")
	}
	f.Fuzz(func(t *testing.T, header, parameter string) {
		if got := envelope.Action(envelope.SOAP12, header, parameter); got != parameter {
			t.Fatalf("%q", got)
		}
		if got := envelope.Action(envelope.SOAP11, `"`+header+`"`, parameter); got != header {
			t.Fatalf("%q is read as %q", header, got)
		}
		if got := envelope.Action(envelope.SOAP11, header, parameter); len(got) > len(header) {
			t.Fatalf("%q is read as %q", header, got)
		}
	})
}
