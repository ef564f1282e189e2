// Package variable answers for UEFI variables and Secure Boot (UEFI 2.10, sections 8.2 and 32.3), of machines whose
// firmware BIOS.v keeps the variables of ([smm.Firmware]). The rules are in package services, which transcribes the
// specification; here stand what is kept of a domain, how much of it, and the contract's words for it.
//
// A caller of the contract who is no guest sees and writes what firmware can before the operating system runs. Signatures are never
// waived, except by [Function.EnrollSecureBootKeys], [Function.ResetSecureBootKeys] and [Function.ImportVariables], which act as physical
// presence does.
package variable

import (
	"context"

	"biosv/fault"
	"biosv/generated"
	"biosv/security"
	"biosv/smm"
	"biosv/smm/variable/efi"
	"biosv/smm/variable/services"
)

// Limits of what a domain's variables take, in bytes.
const (
	maxName        = 1024
	maxVariable    = 64 << 10
	maxVolatile    = 256 << 10
	forErrors      = 32 << 10 // of the flash, for hardware error records
	forTheFirmware = 16 << 10 // and for what firmware writes to it before it asks us
)

// Function answers [generated.VariablePort].
type Function struct {
	// Boots is told of each boot that begins; nil for nobody. It is set before the first.
	Boots Boots

	bios *smm.BIOS
}

// New makes the function.
func New(b *smm.BIOS) *Function { return &Function{bios: b} }

var _ generated.VariablePort = (*Function)(nil)

// Services gives the variable services of the domain in a transaction. Whoever changes something by them and gets an
// error lets the transaction fail.
func (f *Function) Services(tx *smm.Tx, phase services.Phase) (*services.Services, error) {
	limits, err := f.limits(tx.Domain.Name)
	if err != nil {
		return nil, err
	}
	s := &services.Services{Phase: phase, Limits: limits}
	if s.State, err = openState(tx, s); err != nil {
		return nil, err
	}
	return s, nil
}

// limits are those of a domain whose machine has firmware that keeps its variables here.
func (f *Function) limits(domain string) (services.Limits, error) {
	m, err := f.bios.Machine(domain)
	if err != nil {
		return services.Limits{}, err
	}
	firmware, ok := m.(smm.Firmware)
	if !ok {
		return services.Limits{}, fault.Unavailable(fault.NotByThisMachine, 0, "The machine of %s has no UEFI firmware that keeps its variables here: there are no variables, and no Secure Boot.", domain)
	}
	flash := firmware.VariableStorage()
	return services.Limits{
		Name: maxName, Variable: maxVariable, Volatile: maxVolatile, HardwareError: forErrors,
		NonVolatile: flash - min(flash, forErrors+forTheFirmware),
	}, nil
}

// phase is the one by whose rules a caller is answered. A guest has those of its own; one that comes with a certificate
// runs an operating system.
func phase(call generated.Call) services.Phase {
	if call.Principal.Kind() == security.Domain && call.Phase != security.PhaseBootServices {
		return services.Runtime
	}
	return services.Boot
}

// view reads by the services.
func (f *Function) view(ctx context.Context, call generated.Call, fn func(*smm.Tx, *services.Services) error) error {
	return f.bios.View(ctx, call, func(tx *smm.Tx) error {
		s, err := f.Services(tx, phase(call))
		if err != nil {
			return err
		}
		return refused(fn(tx, s))
	})
}

// change changes by the services, also while a machine acts: variables do not wait for it. fn gives the event that
// tells of it, without an id where nothing changed.
func (f *Function) change(ctx context.Context, call generated.Call, op *generated.Operation, version *generated.StateVersion, fn func(*smm.Tx, *services.Services) (smm.Event, error)) (after generated.StateVersion, err error) {
	err = f.bios.ChangeBeside(ctx, call, op.Name, func(tx *smm.Tx) error {
		if err := tx.Require(version); err != nil {
			return err
		}
		s, err := f.Services(tx, phase(call))
		if err != nil {
			return err
		}
		e, err := fn(tx, s)
		if err != nil {
			return refused(err)
		}
		if e.MessageID != "" {
			e.Severity = generated.EventSeverityOk
			tx.Event(e)
		}
		after = tx.Version()
		return nil
	})
	return after, err
}

// stamp is the time of a transaction as a time stamp.
func stamp(tx *smm.Tx) efi.Time {
	t := tx.Now
	return efi.NewTime(t.Year(), int(t.Month()), t.Day(), t.Hour(), t.Minute(), t.Second())
}
