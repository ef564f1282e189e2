package envelope

import (
	"fmt"
	"net/http"
	"strings"

	"biosv/envelope/xmltext"
)

// Code is a fault code: SOAP 1.2's names (Part 1, section 5.4.6), which each version writes its way.
type Code int

// The codes.
const (
	Receiver Code = iota
	Sender
	VersionMismatch
	MustUnderstand
	DataEncodingUnknown // SOAP 1.1 has none and says Client
)

var codes = map[Version]map[Code]string{
	SOAP11: {Receiver: "Server", Sender: "Client", VersionMismatch: "VersionMismatch", MustUnderstand: "MustUnderstand", DataEncodingUnknown: "Client"},
	SOAP12: {Receiver: "Receiver", Sender: "Sender", VersionMismatch: "VersionMismatch", MustUnderstand: "MustUnderstand", DataEncodingUnknown: "DataEncodingUnknown"},
}

// HTTPStatus is the status that a fault is sent with: always 500 for SOAP 1.1 (section 6.2; clients lose the
// detail of others), 400 for a sender's fault of SOAP 1.2 (Part 2, table 20).
func (c Code) HTTPStatus(v Version) int {
	if v == SOAP12 && c == Sender {
		return http.StatusBadRequest
	}
	return http.StatusInternalServerError
}

// Fault is a SOAP fault.
type Fault struct {
	Code          Code
	Subcodes      []xmltext.Name // each one a part of what the one before says; SOAP 1.2 only
	Reason        string
	Detail        func(*xmltext.Writer) // writes the detail's element; may be nil
	NotUnderstood []Header              // of MustUnderstand
}

// Error is the reason.
func (f *Fault) Error() string { return f.Reason }

// WriteFault writes a whole envelope with a fault.
func WriteFault(w *xmltext.Writer, v Version, f *Fault, headers func(*xmltext.Writer)) {
	Begin(w, v, f.headers(v, headers))
	w.Start("s", "Fault")
	if v == SOAP11 {
		text(w, "", "faultcode", "s:"+codes[v][f.Code])
		text(w, "", "faultstring", f.Reason)
		if f.Detail != nil {
			w.Start("", "detail")
			f.Detail(w)
			w.Close()
		}
	} else {
		w.Start("s", "Code")
		text(w, "s", "Value", "s:"+codes[v][f.Code])
		for _, c := range f.Subcodes {
			w.Start("s", "Subcode")
			text(w, "s", "Value", "c:"+c.Local, "xmlns:c", c.Space)
		}
		for range f.Subcodes {
			w.Close()
		}
		w.Close()
		w.Start("s", "Reason")
		text(w, "s", "Text", f.Reason, "xml:lang", "en")
		w.Close()
		if f.Detail != nil {
			w.Start("s", "Detail")
			f.Detail(w)
			w.Close()
		}
	}
	w.Close()
	End(w)
}

// headers adds the blocks that SOAP 1.2 prescribes: Upgrade (section 5.4.7) and NotUnderstood (section 5.4.8).
func (f *Fault) headers(v Version, others func(*xmltext.Writer)) func(*xmltext.Writer) {
	if f.Code != VersionMismatch && (v == SOAP11 || len(f.NotUnderstood) == 0) {
		return others
	}
	return func(w *xmltext.Writer) {
		if others != nil {
			others(w)
		}
		if f.Code == VersionMismatch {
			w.Start("u", "Upgrade", "xmlns:u", Namespace12)
			text(w, "u", "SupportedEnvelope", "", "qname", "e:Envelope", "xmlns:e", Namespace12)
			text(w, "u", "SupportedEnvelope", "", "qname", "e:Envelope", "xmlns:e", Namespace11)
			w.Close()
			return
		}
		for _, h := range f.NotUnderstood {
			text(w, "s", "NotUnderstood", "", "qname", "h:"+h.Local, "xmlns:h", h.Space)
		}
	}
}

func text(w *xmltext.Writer, prefix, local, value string, attributes ...string) {
	w.Start(prefix, local, attributes...)
	w.Text(value)
	w.Close()
}

// Reply is what an envelope that came back holds: with Fault nil, the body's child is the reader's current
// element; else, where HasDetail says so, the fault's detail element is.
type Reply struct {
	*Envelope
	Fault     *Fault
	HasDetail bool
}

// ReadReply reads an envelope that answers a request.
func ReadReply(r *xmltext.Reader) (*Reply, error) {
	e, err := Read(r)
	if err != nil {
		return nil, err
	}
	reply := &Reply{Envelope: e}
	if !r.Is(e.Version.Namespace(), "Fault") {
		return reply, nil
	}
	reply.Fault = &Fault{}
	if e.Version == SOAP11 {
		return reply, reply.fault11(r)
	}
	return reply, reply.fault12(r)
}

func (p *Reply) fault11(r *xmltext.Reader) error {
	for r.Any() {
		_, local := r.Name()
		switch string(local) {
		case "faultcode":
			p.code(string(r.Text()))
		case "faultstring":
			p.Fault.Reason = string(r.Text())
		case "detail":
			p.HasDetail = r.Any()
			return r.Err()
		default:
			r.Skip()
		}
	}
	return r.Err()
}

func (p *Reply) fault12(r *xmltext.Reader) error {
	ns := Namespace12
	for r.Any() {
		switch {
		case r.Is(ns, "Code"):
			if r.MoreIn(ns, "Value") {
				p.code(string(r.Text()))
			}
			for r.Any() {
				r.Skip()
			}
			r.Close()
		case r.Is(ns, "Reason"):
			for r.MoreIn(ns, "Text") {
				p.Fault.Reason = string(r.Text())
			}
			r.Close()
		case r.Is(ns, "Detail"):
			p.HasDetail = r.Any()
			return r.Err()
		default:
			r.Skip()
		}
	}
	return r.Err()
}

// code reads a fault code; SOAP 1.1 has finer ones after a dot (section 4.4.1).
func (p *Reply) code(value string) {
	local, _, _ := strings.Cut(value[strings.LastIndexByte(value, ':')+1:], ".")
	for code := Receiver; code <= DataEncodingUnknown; code++ {
		if codes[p.Version][code] == local {
			p.Fault.Code = code
			return
		}
	}
}

// Action is the action that an HTTP request names: the header SOAPAction of SOAP 1.1 (section 6.1.1), quoted or
// not, or the parameter action of SOAP 1.2's media type. It is empty where none is named.
func Action(v Version, soapAction, contentTypeAction string) string {
	if v == SOAP12 {
		return contentTypeAction
	}
	soapAction = strings.TrimSpace(soapAction)
	if n := len(soapAction); n >= 2 && soapAction[0] == '"' && soapAction[n-1] == '"' {
		return soapAction[1 : n-1]
	}
	return soapAction
}

// UnexpectedReply says that what came back is no answer to what was asked.
type UnexpectedReply struct{ What string }

func (e *UnexpectedReply) Error() string { return fmt.Sprintf("unexpected reply: %s", e.What) }
