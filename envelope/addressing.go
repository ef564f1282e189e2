package envelope

import (
	"fmt"
	"strings"

	"github.com/google/uuid"

	"biosv/envelope/xmltext"
)

// Addressing is the namespace of WS-Addressing 1.0 (W3C Recommendation of 9 May 2006).
const Addressing = "http://www.w3.org/2005/08/addressing"

// Anonymous is the address that means "back where the request came from" (section 2.1).
const Anonymous = Addressing + "/anonymous"

// MessageAddressing is what the addressing headers of a request say. To is empty where it is anonymous too: then the
// message is for whoever got it.
type MessageAddressing struct {
	To, Action, MessageID string
}

// understood are the addressing headers that are taken into account, and whether each is an endpoint reference
// (section 3.2) or else an address.
var understood = map[string]bool{"To": false, "Action": false, "MessageID": false, "RelatesTo": false, "ReplyTo": true, "FaultTo": true, "From": true}

// CheckHeaders gives the addressing of a request, and the fault for what cannot be honoured: blocks that must be
// understood and are not (SOAP 1.1 section 4.2.3, SOAP 1.2 section 5.2.3), and answers that should go elsewhere.
func (e *Envelope) CheckHeaders() (a MessageAddressing, err error) {
	var unknown []Header
	seen := map[string]bool{}
	for _, h := range e.Headers {
		if !h.ForUs {
			continue
		}
		reference, known := understood[h.Local]
		if h.Space != Addressing || !known {
			if h.MustUnderstand {
				unknown = append(unknown, h)
			}
			continue
		}
		if seen[h.Local] && h.Local != "RelatesTo" {
			return a, InvalidAddressing("InvalidCardinality", "The header %s stands twice.", h.Local)
		}
		seen[h.Local] = true
		switch {
		case !reference && strings.TrimSpace(h.Text) == "":
			return a, InvalidAddressing("InvalidAddress", "The header %s holds no address.", h.Local)
		case reference && len(h.Addresses) != 1:
			return a, InvalidAddressing("MissingAddressInEPR", "The header %s holds %d elements Address; an endpoint reference has one.", h.Local, len(h.Addresses))
		case h.Local == "To":
			if a.To = strings.TrimSpace(h.Text); a.To == Anonymous {
				a.To = ""
			}
		case h.Local == "Action":
			a.Action = strings.TrimSpace(h.Text)
		case h.Local == "MessageID":
			a.MessageID = h.Text
		case reference && h.Local != "From" && strings.TrimSpace(h.Addresses[0]) != Anonymous:
			return a, InvalidAddressing("OnlyAnonymousAddressSupported", "The header %s asks for the answer at another address; answers go back over the connection only (%s).", h.Local, Anonymous)
		}
	}
	if len(unknown) > 0 {
		return a, &Fault{Code: MustUnderstand, NotUnderstood: unknown, Reason: fmt.Sprintf("The header {%s}%s must be understood, and is not known here.", unknown[0].Space, unknown[0].Local)}
	}
	return a, nil
}

// InvalidAddressing is the fault for headers that say what cannot be; problem is the local name of what WS-Addressing
// 1.0 SOAP Binding, section 6.4.1, has for it.
func InvalidAddressing(problem, format string, args ...any) *Fault {
	return &Fault{Code: Sender, Subcodes: []xmltext.Name{{Space: Addressing, Local: "InvalidAddressingHeader"}, {Space: Addressing, Local: problem}}, Reason: fmt.Sprintf(format, args...)}
}

// Answer gives the headers of an answer to a request that had a MessageID; nil where it had none.
func (a MessageAddressing) Answer(action string) func(*xmltext.Writer) {
	if a.MessageID == "" {
		return nil
	}
	return func(w *xmltext.Writer) {
		text(w, "a", "Action", action, "xmlns:a", Addressing)
		text(w, "a", "MessageID", "urn:uuid:"+uuid.NewString(), "xmlns:a", Addressing)
		text(w, "a", "RelatesTo", a.MessageID, "xmlns:a", Addressing)
	}
}
