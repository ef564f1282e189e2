package smm

import (
	"context"
	"errors"

	"biosv/fault"
	"biosv/generated"
	"biosv/store"
)

// Attachment says of a domain which machine it is that people had before, and what that was like.
type Attachment struct {
	Address    string // as in the contract: MachineAddress
	Definition string // the machine's own, before BIOS.v changed it, without what is secret in it
	Variables  string // path of its own file of variables
	Folder     string // of what it is given, which its definition names since
}

// Redefinition is what becomes of a machine's definition.
type Redefinition struct {
	Difference string   // unified; empty where there is none
	Notes      []string // what people should know of it
}

// Found is a machine that people have, as an [Examiner] found it.
type Found struct {
	Domain       Domain // that it is to be; without CreatedAt
	Redefinition Redefinition
	Flash        []byte // its variables
}

// Examiner looks at a machine that people have, of an address of the contract, and changes nothing. Name is that of the
// domain that it is to be; empty means the machine's own. It refuses a machine that cannot be attached.
type Examiner func(ctx context.Context, address, name string) (*Found, error)

// Attached is a [Machine] that people had before, whose definition BIOS.v changes and gives back. Its methods are called
// while an intent is open.
type Attached interface {
	Machine
	// Attach changes the definition, from the next start on; found is what was found before, whose variables are here now.
	// Where it fails with [ErrUnsettled], the machine may be attached, or be so later: its variables are to stay.
	Attach(ctx context.Context, found *Found) error
	// Detachment says what Detach would do, at any time.
	Detachment(ctx context.Context) (Redefinition, error)
	// Detach takes the changes back, and has the machine go on with the variables in flash. It must be off.
	Detach(ctx context.Context, flash []byte) (Redefinition, error)
}

// ErrUnsettled is in the error of an [Attached] whose machine's keeper was asked for a change, and did not answer.
var ErrUnsettled = errors.New("what became of it is not known")

// Examine examines the machine of an address.
func (b *BIOS) Examine(ctx context.Context, address, name string) (*Found, error) {
	if b.examiner == nil {
		return nil, fault.Unavailable(fault.NotOnThisHost, 0, "This biosv attaches no machines.")
	}
	return b.examiner(ctx, address, name)
}

const divergedKey = "diverged"

// Diverged says why the domain's machine is not what it is here; empty where it is.
func (tx *Tx) Diverged() string {
	why, _, _ := store.GetJSON[string](tx.State("bios"), divergedKey)
	return why
}

// Diverge keeps why the domain's machine is not what it is here, and tells of it where that is new; empty means that it is
// again.
func (s *supervisor) Diverge(ctx context.Context, why string) error {
	call := s.bios.localCall(s.domain)
	var was string
	if err := s.bios.View(ctx, call, func(tx *Tx) error { was = tx.Diverged(); return nil }); err != nil || was == why {
		return err
	}
	return s.bios.update(ctx, call, "Report", func(tx *Tx) error {
		e := Event{Severity: generated.EventSeverityWarning, MessageID: "BiosV.1.0.MachineDiverged", Message: "The machine is not what it is here: " + why}
		if why == "" {
			e = Event{Severity: generated.EventSeverityOk, MessageID: "BiosV.1.0.MachineConverged", Message: "The machine is again what it is here."}
		}
		e.Changes = []Change{{Name: "Diverged", Old: &was, New: &why}}
		tx.Event(e)
		return store.PutJSON(tx.State("bios"), divergedKey, why)
	})
}
