// Package envelopes is SOAP messages that are as they should be, for tests: written by hand, and as the clients of
// other makers sent them. README.md says what each is; [Requests] and [Replies] read it.
package envelopes

import (
	"embed"
	"fmt"
	"strings"
	"sync"

	"biosv/envelope"
	"biosv/testdata/table"
)

//go:embed README.md *.xml *.http
var files embed.FS

// Message is an envelope.
type Message struct {
	Name  string
	HTTP  bool // Bytes are a whole HTTP request, and else an envelope
	Bytes []byte
	As    envelope.Version

	Operation string // that a request asks for

	Element string // of an answer's body; empty for a fault
	Code    string // of a fault, by its name in SOAP 1.2
	Detail  string // the fault of the contract in it; may be empty
}

// Envelope is the message without what stands around it in HTTP.
func (m Message) Envelope() []byte {
	if !m.HTTP {
		return m.Bytes
	}
	_, body, _ := strings.Cut(string(m.Bytes), "\r\n\r\n")
	return []byte(body)
}

// Requests gives what a client asks.
func Requests() ([]Message, error) {
	all, err := messages()
	return filter(all, true), err
}

// Replies gives what a service answers.
func Replies() ([]Message, error) {
	all, err := messages()
	return filter(all, false), err
}

func filter(all []Message, requests bool) (some []Message) {
	for _, m := range all {
		if (m.Operation != "") == requests {
			some = append(some, m)
		}
	}
	return some
}

var messages = sync.OnceValues(func() (all []Message, err error) {
	rows, err := table.Read(files, nil, 3)
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		m := Message{Name: r.File, HTTP: strings.HasSuffix(r.File, ".http")}
		if m.As, err = table.Version(r.Cells[1]); err != nil {
			return nil, fmt.Errorf("README.md: %s: %w", m.Name, err)
		}
		if m.Bytes, err = files.ReadFile(m.Name); err != nil {
			return nil, err
		}
		says, detail, _ := strings.Cut(r.Cells[2], " ")
		switch {
		case strings.HasPrefix(m.Name, "fault-"):
			m.Code, m.Detail = says, detail
		case strings.HasPrefix(m.Name, "reply-"):
			m.Element = says
		default:
			m.Operation = says
		}
		all = append(all, m)
	}
	return all, nil
})
