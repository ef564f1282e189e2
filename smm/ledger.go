package smm

import (
	"time"

	"biosv/generated"
)

// Outcome is what became of a request, as the audit log tells it.
type Outcome string

// The outcomes.
const (
	Intended Outcome = "Intended" // accepted; a machine is to act
	Done     Outcome = "Done"
	Refused  Outcome = "Refused" // by the gate
	Failed   Outcome = "Failed"  // past the gate
)

// Entry is what a [Ledger] is told. Events go to the domain's event log; the entry itself is the audit row.
type Entry struct {
	At        time.Time // zero means now
	Call      generated.Call
	Operation string
	Outcome   Outcome
	Reason    string
	Events    []Event
}

// Event is something that happened to a domain, for its event log.
type Event struct {
	Severity  generated.EventSeverity
	MessageID string // Redfish message id
	Message   string // for people; no secrets
	Changes   []Change
}

// Change is one value that an event changed. Old and New are nil where there was or is none, or where the
// value is secret.
type Change struct {
	Name     string
	Old, New *string
}
