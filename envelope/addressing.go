package envelope

import (
	"fmt"

	"github.com/google/uuid"

	"biosv/envelope/xmltext"
)

// Addressing is the namespace of WS-Addressing 1.0 (W3C Recommendation of 9 May 2006).
const Addressing = "http://www.w3.org/2005/08/addressing"

// The addresses that mean "back where the request came from", and "nowhere" (section 2.1).
const (
	Anonymous = Addressing + "/anonymous"
	NoAddress = Addressing + "/none"
)

// MessageAddressing is what the addressing headers of a request say.
type MessageAddressing struct {
	To, Action, MessageID string
}

// understood are the addressing headers that are taken into account.
var understood = map[string]bool{"To": true, "Action": true, "MessageID": true, "ReplyTo": true, "FaultTo": true, "From": true, "RelatesTo": true}

// CheckHeaders gives the addressing of a request, and the fault for what cannot be honoured: blocks that must be
// understood and are not (SOAP 1.1 section 4.2.3, SOAP 1.2 section 5.2.3), and answers that should go elsewhere.
func (e *Envelope) CheckHeaders() (a MessageAddressing, err error) {
	var unknown []Header
	seen := map[string]bool{}
	for _, h := range e.Headers {
		if !h.ForUs {
			continue
		}
		if h.Space != Addressing || !understood[h.Local] {
			if h.MustUnderstand {
				unknown = append(unknown, h)
			}
			continue
		}
		if seen[h.Local] && h.Local != "RelatesTo" {
			return a, invalidHeader("The header %s stands twice.", h.Local)
		}
		seen[h.Local] = true
		switch h.Local {
		case "To":
			a.To = h.Text
		case "Action":
			a.Action = h.Text
		case "MessageID":
			a.MessageID = h.Text
		case "ReplyTo", "FaultTo":
			if h.Address != Anonymous && h.Address != "" {
				return a, &Fault{Code: Sender, Subcode: [2]string{Addressing, "OnlyAnonymousAddressSupported"}, Reason: fmt.Sprintf("The header %s asks for the answer at another address; answers go back over the connection only (%s).", h.Local, Anonymous)}
			}
		}
	}
	if len(unknown) > 0 {
		return a, &Fault{Code: MustUnderstand, NotUnderstood: unknown, Reason: fmt.Sprintf("The header {%s}%s must be understood, and is not known here.", unknown[0].Space, unknown[0].Local)}
	}
	return a, nil
}

func invalidHeader(format string, args ...any) *Fault {
	return &Fault{Code: Sender, Subcode: [2]string{Addressing, "InvalidAddressingHeader"}, Reason: fmt.Sprintf(format, args...)}
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
