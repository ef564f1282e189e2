// Package envelope reads and writes SOAP envelopes: SOAP 1.1 (W3C Note of 8 May 2000) and SOAP 1.2 (Part 1,
// second edition), document/literal. It knows headers, bodies and faults, and nothing of what is in them. What SOAP
// has a code for is a [Fault] of that code; what is no envelope, or no XML, is the reader's error.
//
// [Read] is the receiving side's beginning, [ReadReply] the asking side's.
package envelope

import (
	"fmt"

	"biosv/envelope/xmltext"
)

// Version is a version of SOAP.
type Version int

// The versions.
const (
	SOAP11 Version = 11
	SOAP12 Version = 12
)

// Namespaces of the envelopes.
const (
	Namespace11 = "http://schemas.xmlsoap.org/soap/envelope/"
	Namespace12 = "http://www.w3.org/2003/05/soap-envelope"
)

// Namespace is the namespace of the version's envelope.
func (v Version) Namespace() string {
	if v == SOAP11 {
		return Namespace11
	}
	return Namespace12
}

// MediaType is the version's (SOAP 1.1 section 6, RFC 3902).
func (v Version) MediaType() string {
	if v == SOAP11 {
		return "text/xml"
	}
	return "application/soap+xml"
}

// String gives 1.1 or 1.2.
func (v Version) String() string {
	if v == SOAP11 {
		return "1.1"
	}
	return "1.2"
}

// mostHeaders bounds the header blocks of an envelope.
const mostHeaders = 32

// Header is a header block. Of those of WS-Addressing, Text is the content where that is text; endpoint references
// such as ReplyTo hold elements, of which Addresses are the texts of the children wsa:Address. Others may hold
// anything, and are passed over.
type Header struct {
	Space, Local   string
	MustUnderstand bool
	ForUs          bool // it is targeted at the ultimate receiver or the next node
	Text           string
	Addresses      []string
}

// Envelope is what stands around a body.
type Envelope struct {
	Version Version
	Headers []Header
}

// Read reads an envelope up to the first child of its body, which is then the reader's current element. The
// envelope is never nil: where nothing is known of the version, it is SOAP 1.1.
func Read(r *xmltext.Reader) (*Envelope, error) {
	e := &Envelope{Version: SOAP11}
	if !r.Root() {
		return e, r.Err()
	}
	space, local := r.Name()
	switch {
	case string(local) == "Envelope" && string(space) == Namespace11:
	case string(local) == "Envelope" && string(space) == Namespace12:
		e.Version = SOAP12
	default:
		return e, &Fault{Code: VersionMismatch, Reason: fmt.Sprintf("The document is a {%s}%s; an Envelope of SOAP 1.1 (%s) or 1.2 (%s) is expected.", xmltext.Clip(string(space)), local, Namespace11, Namespace12)}
	}
	ns := e.Version.Namespace()
	if err := e.attributes(r); err != nil {
		return e, err
	}
	if r.MoreIn(ns, "Header") {
		if err := e.attributes(r); err != nil {
			return e, err
		}
		for r.Any() {
			if len(e.Headers) == mostHeaders {
				return e, &Fault{Code: Sender, Reason: fmt.Sprintf("The envelope has more than %d header blocks.", mostHeaders)}
			}
			h, err := e.header(r)
			if err != nil {
				return e, err
			}
			e.Headers = append(e.Headers, h)
		}
		r.Close()
	}
	if !r.NeedIn(ns, "Body") {
		return e, r.Err()
	}
	if err := e.attributes(r); err != nil {
		return e, err
	}
	r.NeedAny("one element, the operation's,")
	return e, r.Err()
}

// Finish checks that nothing follows the body's child, which was read: one child, one body, one envelope.
func (e *Envelope) Finish(r *xmltext.Reader) error {
	r.Close() // the body
	r.Close() // the envelope
	r.EndDocument()
	return r.Err()
}

// attributes refuses encodings: the contract is literal (WS-I Basic Profile 1.1, R1005 to R1007).
func (e *Envelope) attributes(r *xmltext.Reader) error {
	ns := e.Version.Namespace()
	if style, ok := r.Attr(ns, "encodingStyle"); ok && string(style) != "" && string(style) != ns+"/encoding/none" {
		return &Fault{Code: DataEncodingUnknown, Reason: fmt.Sprintf("The encoding style %q is not supported; the contract is document/literal.", xmltext.Clip(string(style)))}
	}
	return nil
}

func (e *Envelope) header(r *xmltext.Reader) (Header, error) {
	space, local := r.Name()
	h := Header{Space: string(space), Local: string(local)}
	if h.Space == "" {
		return h, &Fault{Code: Sender, Reason: fmt.Sprintf("The header %s is in no namespace.", h.Local)}
	}
	ns := e.Version.Namespace()
	if must, ok := r.Attr(ns, "mustUnderstand"); ok {
		switch v := string(must); {
		case v == "1", v == "true" && e.Version == SOAP12:
			h.MustUnderstand = true
		case v == "0", v == "false" && e.Version == SOAP12:
		default:
			return h, &Fault{Code: Sender, Reason: fmt.Sprintf("mustUnderstand of the header %s is %q; it is 0 or 1.", h.Local, xmltext.Clip(v))}
		}
	}
	role, ok := r.Attr(ns, e.Version.roleAttribute())
	h.ForUs = !ok || e.Version.isOurs(string(role))
	h.content(r)
	return h, r.Err()
}

// content reads what a header block holds.
func (h *Header) content(r *xmltext.Reader) {
	if h.Space != Addressing {
		r.Skip()
		return
	}
	if !r.HasElements() {
		h.Text = string(r.Text())
		return
	}
	for r.Any() {
		if r.Is(Addressing, "Address") && !r.HasElements() {
			h.Addresses = append(h.Addresses, string(r.Text()))
		} else {
			r.Skip()
		}
	}
	r.Close()
}

// roleAttribute is the attribute that targets a header block (SOAP 1.1 section 4.2.2, SOAP 1.2 section 5.2.2).
func (v Version) roleAttribute() string {
	if v == SOAP11 {
		return "actor"
	}
	return "role"
}

// isOurs says whether a role is one that the ultimate receiver acts in.
func (v Version) isOurs(role string) bool {
	if v == SOAP11 {
		return role == "" || role == "http://schemas.xmlsoap.org/soap/actor/next"
	}
	return role == "" || role == Namespace12+"/role/next" || role == Namespace12+"/role/ultimateReceiver"
}

// Begin writes the beginning of an envelope, up to inside its body; [End] writes the rest. headers writes the
// header blocks and may be nil.
func Begin(w *xmltext.Writer, v Version, headers func(*xmltext.Writer)) {
	w.Raw(`<?xml version="1.0" encoding="UTF-8"?>` + "\n")
	w.Start("s", "Envelope", "xmlns:s", v.Namespace())
	if headers != nil {
		w.Start("s", "Header")
		headers(w)
		w.Close()
	}
	w.Start("s", "Body")
}

// End closes body and envelope.
func End(w *xmltext.Writer) {
	w.Close()
	w.Close()
}
