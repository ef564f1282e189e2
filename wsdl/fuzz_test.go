package wsdl_test

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"github.com/jacoelho/xsd"

	"biosv/envelope/xmltext"
	"biosv/generated"
	"biosv/wsdl"
)

// decoding reads a message from a reader whose root is current.
type decoding func(*xmltext.Reader) (generated.Message, error)

// fuzz asserts of whatever is read as a message that the schema allows it, as another validator reads that; that it is
// written as what the schema allows; and of what the schema does not allow, that nothing was read.
func fuzz(f *testing.F, seeds func() []generated.Message, decode decoding) {
	d, err := wsdl.Published()
	if err != nil {
		f.Fatal(err)
	}
	engine, err := xsd.Compile(f.Context(), xsd.Bytes(wsdl.SchemaName, d.Schema))
	if err != nil {
		f.Fatal(err)
	}
	for _, how := range []filling{zeros, absent, most} {
		for _, m := range seeds() {
			fill(reflect.ValueOf(m).Elem(), typeName(m), how)
			text, err := encode(m)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(text)
		}
	}
	for _, c := range strictness {
		f.Add([]byte(c.document))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		m, err := readDocument(doc, decode)
		allowed := engine.Validate(t.Context(), bytes.NewReader(doc))
		var refused *xmltext.SchemaError
		switch {
		case err == nil && allowed != nil && !bytes.Contains(bytes.ToLower(doc), []byte("ascii")): // which the other does not know to be UTF-8
			t.Fatalf("read as %T; another validator refuses it: %v", m, allowed)
		case errors.As(err, &refused) && allowed == nil && refused.Rule != "cvc-elt.1" && !yearBeyond(refused):
			t.Fatalf("another validator allows it: %v", err)
		}
		if err != nil {
			return
		}
		text, err := encode(m)
		if err != nil {
			t.Fatalf("%T was read and cannot be written: %v", m, err)
		}
		again, err := readDocument(text, decode)
		if err != nil {
			t.Fatalf("%T cannot be read again: %v\n%s", m, err, text)
		}
		if third, err := encode(again); err != nil || !bytes.Equal(text, third) {
			t.Fatalf("%T is written otherwise again: %v\n%s\n%s", m, err, text, third)
		}
	})
}

func readDocument(doc []byte, decode decoding) (generated.Message, error) {
	r := xmltext.NewReader(doc, xmltext.DefaultLimits)
	defer r.Release()
	if !r.Root() {
		return nil, r.Err()
	}
	m, err := decode(r)
	if err == nil {
		r.EndDocument()
		err = r.Err()
	}
	return m, err
}

// yearBeyond says whether a time was refused whose year is none of 1 to 9999, which XML Schema allows.
func yearBeyond(e *xmltext.SchemaError) bool {
	return e.Rule == "cvc-datatype-valid.1.2.1" && bytes.Contains([]byte(e.Expected), []byte("of a year"))
}

// only are the messages of a kind.
func only[T generated.Message]() (some []generated.Message) {
	for _, m := range messages() {
		if _, ok := m.(T); ok {
			some = append(some, m)
		}
	}
	return some
}

func FuzzDecodeRequest(f *testing.F) {
	fuzz(f, only[generated.Request], func(r *xmltext.Reader) (generated.Message, error) { return generated.DecodeRequest(r) })
}

func FuzzDecodeReply(f *testing.F) {
	byName := map[string]*generated.Operation{}
	for i := range generated.Operations {
		byName[generated.Operations[i].Name+"Response"] = &generated.Operations[i]
	}
	fuzz(f, only[generated.Reply], func(r *xmltext.Reader) (generated.Message, error) {
		_, local := r.Name()
		op := byName[string(local)]
		if op == nil {
			op = &generated.Operations[0]
		}
		return generated.DecodeReply(r, op)
	})
}

func FuzzDecodeFault(f *testing.F) {
	fuzz(f, only[generated.Fault], func(r *xmltext.Reader) (generated.Message, error) { return generated.DecodeFault(r) })
}
