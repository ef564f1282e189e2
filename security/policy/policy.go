// Package policy is the rule book of the gate: who may ask for what, of which domain. The roles that
// operations ask for are the contract's (generated.Operations); the roles that operators have are in the
// store, read anew at every request, so that one taken away is gone on open connections too.
package policy

import (
	"context"

	"biosv/fault"
	"biosv/generated"
	"biosv/security"
)

// Roles gives the role that an operator has now; [security.NoRole] for whoever is none.
type Roles func(ctx context.Context, operator string) (security.Role, error)

// Policy judges requests.
type Policy struct {
	roles      Roles
	privileged string
}

// New makes a Policy; privileged is the name of the privileged domain.
func New(roles Roles, privileged string) *Policy { return &Policy{roles, privileged} }

// Judge says whether a request may pass. The rules, in their order: a service may do everything; what asks for
// no role is open to anyone; else a valid identity is needed; the host's operations are answered at the
// privileged domain's address only; a domain may ask what the contract opens to guests, of itself; a person
// must have the role.
func (p *Policy) Judge(ctx context.Context, call generated.Call, op *generated.Operation) error {
	who := call.Principal
	switch {
	case who.Kind() == security.Service:
		return nil
	case who.Kind() == security.Nobody:
		return fault.AuthenticationRequired(fault.Code(security.CertificateMissing), "Nobody asked; the request is refused.")
	case op.Role == security.Anyone:
		return nil
	case who.Kind() == security.Unidentified:
		problem := who.Problem()
		return fault.AuthenticationRequired(fault.Code(problem.Code), "%s asks for a valid client certificate: %s.", op.Name, problem.Reason)
	case op.Scope == generated.HostScope && call.Domain != p.privileged:
		f := fault.NotFound(fault.PrivilegedOnly, "", call.Domain, "%s is answered at the privileged domain's address only: /bios/%s.", op.Name, p.privileged)
		f.CorrectAddress = "/bios/" + p.privileged
		return f
	case who.Kind() == security.Domain:
		return p.judgeDomain(call, op)
	}
	return p.judgePerson(ctx, call, op)
}

func (p *Policy) judgeDomain(call generated.Call, op *generated.Operation) error {
	subject := call.Principal.String()
	if call.Domain != call.Principal.Name() {
		return fault.AccessDenied(fault.OtherDomain, subject, op.Name, "a domain speaks for itself only",
			"The domain %s may not ask for %s of the domain %s.", call.Principal.Name(), op.Name, call.Domain)
	}
	if !op.Guest {
		return fault.AccessDenied(fault.NotForGuests, subject, op.Name, "the operation is not open to guests",
			"%s is not open to guests: an operator's certificate is needed.", op.Name)
	}
	return nil
}

func (p *Policy) judgePerson(ctx context.Context, call generated.Call, op *generated.Operation) error {
	subject := call.Principal.String()
	role, err := p.roles(ctx, call.Principal.Name())
	if err != nil {
		return err
	}
	if role == security.NoRole {
		return fault.AccessDenied(fault.NotAnOperator, subject, op.Name, "roles are given by AddOperator",
			"%s is no operator here: an admin adds one with AddOperator.", call.Principal.Name())
	}
	if role < op.Role {
		return fault.AccessDenied(fault.RoleTooSmall, subject, op.Name, op.Name+" asks for the role "+op.Role.String(),
			"%s has the role %s, and %s asks for the role %s.", call.Principal.Name(), role, op.Name, op.Role)
	}
	return nil
}
