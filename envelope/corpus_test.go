package envelope_test

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"biosv/envelope"
	"biosv/envelope/xmltext"
	"biosv/generated"
	"biosv/testdata/envelopes"
	"biosv/testdata/hostile"
)

// limits are the reader's as the SOAP door has them for an admin.
var limits = func() xmltext.Limits {
	l := xmltext.DefaultLimits
	l.Bytes = 64 << 20
	return l
}()

// exporter lets cmp look into the times of gowsdl's types.
var exporter = cmp.Exporter(func(reflect.Type) bool { return true })

// read reads a request as a door does.
func read(doc []byte) (e *envelope.Envelope, a envelope.MessageAddressing, m generated.Request, err error) {
	r := xmltext.NewReader(doc, limits)
	defer r.Release()
	if e, err = envelope.Read(r); err != nil {
		return e, a, nil, err
	}
	if a, err = e.CheckHeaders(); err != nil {
		return e, a, nil, err
	}
	if m, err = generated.DecodeRequest(r); err != nil {
		return e, a, nil, err
	}
	return e, a, m, e.Finish(r)
}

// write writes a message in an envelope.
func write(v envelope.Version, m generated.Message, headers func(*xmltext.Writer)) ([]byte, error) {
	w := xmltext.NewWriter()
	defer w.Release()
	envelope.Begin(w, v, headers)
	generated.Encode(w, m)
	envelope.End(w)
	return bytes.Clone(w.Bytes()), w.Err()
}

func requests(t testing.TB) []envelopes.Message {
	t.Helper()
	all, err := envelopes.Requests()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestGoodRequestsAreReadAndWrittenAgain(t *testing.T) {
	t.Parallel()
	for _, c := range requests(t) {
		e, a, m, err := read(c.Envelope())
		if err != nil {
			t.Errorf("%s: %v", c.Name, err)
			continue
		}
		if e.Version != c.As || m.Operation().Name != c.Operation {
			t.Errorf("%s is read as SOAP %s, %s", c.Name, e.Version, m.Operation().Name)
		}
		if a.Action != "" && a.Action != m.Operation().Action {
			t.Errorf("%s: the action is %q", c.Name, a.Action)
		}
		text, err := write(e.Version, m, a.Answer("urn:test"))
		if err != nil {
			t.Errorf("%s: %v", c.Name, err)
			continue
		}
		_, _, again, err := read(text)
		if err != nil {
			t.Errorf("%s, written again: %v\n%s", c.Name, err, text)
			continue
		}
		if diff := cmp.Diff(m, again, exporter); diff != "" {
			t.Errorf("%s, written again: %s", c.Name, diff)
		}
		if a.MessageID != "" && !strings.Contains(string(text), ">"+a.MessageID+"</a:RelatesTo>") {
			t.Errorf("%s is not what the answer relates to:\n%s", c.Name, text)
		}
	}
}

// passes are the attacks that are no matter of an envelope, but of what its parts say.
func passes(a hostile.Attack) bool {
	return a.Fault == "NotFoundFault" || strings.HasPrefix(a.Name, "action-")
}

func attacks(t testing.TB) (all []hostile.Attack) {
	t.Helper()
	corpus, err := hostile.Corpus()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range corpus {
		if !a.HTTP {
			all = append(all, a)
		}
	}
	return all
}

func TestAttacksAreRefusedAsTheirTableSays(t *testing.T) {
	t.Parallel()
	for _, a := range attacks(t) {
		_, _, m, err := read(a.Bytes())
		var fault *envelope.Fault
		var syntax *xmltext.SyntaxError
		var schema *xmltext.SchemaError
		switch {
		case err == nil:
			if !passes(a) {
				t.Errorf("%s is read as %T", a.Name, m)
			}
			continue
		case errors.As(err, &fault):
			if a.Fault != "" {
				t.Errorf("%s is refused with the code %d: %v", a.Name, fault.Code, err)
			}
			for _, v := range []envelope.Version{envelope.SOAP11, envelope.SOAP12} {
				checkWritten(t, a.Name, v, fault)
			}
		case errors.As(err, &syntax):
			if rule := syntax.Code; rule != a.Rule && (rule != xmltext.LimitExceeded || syntax.Limit != a.Rule) {
				t.Errorf("%s is refused by %s %s: %v", a.Name, rule, syntax.Limit, err)
			}
		case errors.As(err, &schema):
			if schema.Rule != a.Rule {
				t.Errorf("%s is refused by %s: %v", a.Name, schema.Rule, err)
			}
		default:
			t.Errorf("%s: %T", a.Name, err)
		}
		if len(err.Error()) > 16<<10 {
			t.Errorf("%s is refused with %d bytes", a.Name, len(err.Error()))
		}
	}
}

// checkWritten asserts that a fault is read as what it was written of.
func checkWritten(t *testing.T, name string, v envelope.Version, f *envelope.Fault) {
	t.Helper()
	w := xmltext.NewWriter()
	defer w.Release()
	envelope.WriteFault(w, v, f, nil)
	if err := w.Err(); err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	r := xmltext.NewReader(w.Bytes(), limits)
	defer r.Release()
	reply, err := envelope.ReadReply(r)
	if err != nil {
		t.Errorf("%s: %v\n%s", name, err, w.Bytes())
		return
	}
	code := f.Code
	if v == envelope.SOAP11 && code == envelope.DataEncodingUnknown {
		code = envelope.Sender
	}
	if reply.Version != v || reply.Fault == nil || reply.Fault.Code != code || reply.Fault.Reason != f.Reason || reply.HasDetail {
		t.Errorf("%s is read as %+v:\n%s", name, reply.Fault, w.Bytes())
	}
}

var codeNames = map[envelope.Code]string{
	envelope.Receiver: "Receiver", envelope.Sender: "Sender", envelope.VersionMismatch: "VersionMismatch",
	envelope.MustUnderstand: "MustUnderstand", envelope.DataEncodingUnknown: "DataEncodingUnknown",
}

func replies(t testing.TB) []envelopes.Message {
	t.Helper()
	all, err := envelopes.Replies()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestAnswersAreReadAsTheySay(t *testing.T) {
	t.Parallel()
	for _, c := range replies(t) {
		r := xmltext.NewReader(c.Bytes, limits)
		reply, err := envelope.ReadReply(r)
		if err != nil {
			t.Fatalf("%s: %v", c.Name, err)
		}
		if reply.Version != c.As {
			t.Errorf("%s is read as SOAP %s", c.Name, reply.Version)
		}
		switch {
		case c.Element != "":
			if reply.Fault != nil || !r.Is(generated.Namespace, c.Element) {
				t.Errorf("%s is read as %+v", c.Name, reply)
			}
			op := operation(strings.TrimSuffix(c.Element, "Response"))
			m, err := generated.DecodeReply(r, op)
			if err == nil {
				err = reply.Finish(r)
			}
			if err != nil || m.ElementName() != c.Element {
				t.Errorf("%s: %T, %v", c.Name, m, err)
				continue
			}
			text, err := write(c.As, m, nil)
			if _, body, _ := strings.Cut(string(c.Bytes), "<b:"); err != nil || !strings.Contains(string(text), body[:strings.LastIndex(body, "</b:")]) {
				t.Errorf("%s is written otherwise, %v:\n%s", c.Name, err, text)
			}
		case reply.Fault == nil || codeNames[reply.Fault.Code] != c.Code || reply.Fault.Error() != "It is locked.":
			t.Errorf("%s is read as %+v", c.Name, reply.Fault)
		case reply.HasDetail:
			f, err := generated.DecodeFault(r)
			if c.Detail == "" && err == nil || c.Detail != "" && (err != nil || f.Info().Name != c.Detail) {
				t.Errorf("%s: %T, %v", c.Name, f, err)
			}
			if err == nil {
				checkDetail(t, c, reply.Fault, f)
			}
		case c.Detail != "":
			t.Errorf("%s is read without its detail", c.Name)
		}
		r.Release()
	}
}

func operation(name string) *generated.Operation {
	for i := range generated.Operations {
		if generated.Operations[i].Name == name {
			return &generated.Operations[i]
		}
	}
	return nil
}

// checkDetail asserts that a fault is read with its detail as it was written, with the headers that answer a message.
func checkDetail(t *testing.T, c envelopes.Message, f *envelope.Fault, detail generated.Fault) {
	t.Helper()
	f.Detail = func(w *xmltext.Writer) { generated.Encode(w, detail) }
	f.Subcodes = []xmltext.Name{{Space: generated.Namespace, Local: detail.Info().Name}}
	w := xmltext.NewWriter()
	defer w.Release()
	envelope.WriteFault(w, c.As, f, envelope.MessageAddressing{MessageID: "urn:a"}.Answer("urn:b"))
	r := xmltext.NewReader(w.Bytes(), limits)
	defer r.Release()
	reply, err := envelope.ReadReply(r)
	if err != nil || !reply.HasDetail || len(reply.Headers) != 3 {
		t.Fatalf("%s, written again: %v\n%s", c.Name, err, w.Bytes())
	}
	if again, err := generated.DecodeFault(r); err != nil || again.Error() != detail.Error() {
		t.Errorf("%s, written again: %v, %v", c.Name, again, err)
	}
}
