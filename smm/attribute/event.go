package attribute

import (
	"strings"

	"biosv/generated"
	"biosv/smm"
)

// The events of this function.
const (
	eventChanged   = "BiosV.1.0.AttributesChanged"          // values are in force; others may be pending
	eventPending   = "BiosV.1.0.AttributesPending"          // values wait for the next start, or wait no longer
	eventApplied   = "BiosV.1.0.AttributesApplied"          // a start made pending values current
	eventDiscarded = "BiosV.1.0.PendingAttributesDiscarded" // pending values were taken away
	eventReset     = "BiosV.1.0.AttributesReset"            // attributes went back to defaults
	eventSaved     = "BiosV.1.0.DefaultAttributesSaved"     // the current values are the saved defaults
	eventLocked    = "BiosV.1.0.PasswordLockout"            // changes are locked for wrong passwords
)

// event tells of a plan; id is the message id where the operation has one of its own. The values of a change are
// the one in force before and the one asked for; where a pending one is withdrawn, that one and the one in force.
func (p *plan) event(id string) smm.Event {
	e := smm.Event{Severity: generated.EventSeverityOk, MessageID: id, Changes: make([]smm.Change, len(p.steps))}
	var names [withdrawn + 1][]string
	for i, s := range p.steps {
		names[s.to] = append(names[s.to], s.Name)
		e.Changes[i] = changeOf(s.definition, s.from, s.value)
	}
	if id == "" {
		e.MessageID = eventPending
		if len(names[inForce]) > 0 {
			e.MessageID = eventChanged
		}
	}
	var said []string
	for to, what := range [...]string{inForce: "Changed: ", pending: "Waiting for the next start: ", withdrawn: "No longer waiting: "} {
		if len(names[to]) > 0 {
			said = append(said, what+listed(names[to])+".")
		}
	}
	e.Message = strings.Join(said, " ")
	return e
}

// changeOf tells of a value that changed. A list is told in one text; of a Password nothing is told but its name.
func changeOf(d *definition, from, to []string) smm.Change {
	if d.secret() {
		return smm.Change{Name: d.Name}
	}
	return smm.Change{Name: d.Name, Old: joined(from), New: joined(to)}
}

func joined(value []string) *string { return new(strings.Join(value, ", ")) }
