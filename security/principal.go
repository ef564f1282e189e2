// Package security says who may speak. It is the base that everything else stands on and imports nothing of
// BIOS.v: the principal that a request comes from, the roles that operations ask for, the doors that requests
// come through, and the [Authenticator] that turns a TLS peer's certificates into a principal.
//
// A [Principal] can be made only here, so a door cannot invent one. Its zero value is nobody and is refused
// everywhere. What a principal may do is not in its certificate: roles live in the store, where they can be
// taken away.
package security

import "fmt"

// Role is what an operation asks for, and what an operator has. Greater roles hold the smaller ones.
type Role int

// The roles, in rising order. Guest is a domain that asks for itself.
const (
	NoRole   Role = iota // nothing is allowed; what an unknown person has
	Anyone               // no identity is needed
	Guest                // the domain itself
	Viewer               // reads every domain
	Operator             // changes every domain
	Admin                // changes domains and operators themselves
)

var roleNames = [...]string{NoRole: "none", Anyone: "anyone", Guest: "guest", Viewer: "viewer", Operator: "operator", Admin: "admin"}

// String gives the role's name in lower case.
func (r Role) String() string {
	if r < 0 || int(r) >= len(roleNames) {
		return fmt.Sprintf("role(%d)", int(r))
	}
	return roleNames[r]
}

// Door names the protocol that a request came through.
type Door string

// The doors.
const (
	DoorSOAP  Door = "soap"  // SOAP over TLS
	DoorUEFI  Door = "uefi"  // a guest's thin virtual BIOS, over the guest's own socket
	DoorLocal Door = "local" // biosv itself: what happens without a request
)

// Phase is how far the guest that speaks has come: from boot services to operating system, never back
// (UEFI 2.10 section 8.2). It is empty for whoever is no guest.
type Phase string

// The phases.
const (
	PhaseBootServices    Phase = "BootServices"
	PhaseOperatingSystem Phase = "OperatingSystem"
)

// Kind says what sort of peer a principal is.
type Kind int

// The kinds of principal.
const (
	Nobody       Kind = iota // the zero value: refused everywhere
	Unidentified             // a peer without a valid certificate
	Person                   // spiffe://TRUST-DOMAIN/person/NAME
	Domain                   // spiffe://TRUST-DOMAIN/domain/NAME
	Service                  // biosv itself
)

// Principal is who a request comes from. Only this package makes one: see [Authenticator.Authenticate] and
// [Local] and [GuestOf].
type Principal struct {
	kind    Kind
	name    string
	id      string
	problem *Problem
}

// Kind tells what sort of peer it is.
func (p Principal) Kind() Kind { return p.kind }

// Name is the last part of the identity: the operator's or the domain's name.
func (p Principal) Name() string { return p.name }

// Problem is why the peer is unidentified; nil for others.
func (p Principal) Problem() *Problem { return p.problem }

// String is how logs, records and faults name the principal: its SPIFFE id, or what is known of a peer
// without one.
func (p Principal) String() string {
	switch p.kind {
	case Person, Domain, Service:
		return p.id
	case Unidentified:
		return "unidentified"
	}
	return "nobody"
}

// Local is biosv itself, for what it does without having been asked: reconciling at start, restoring power.
func Local() Principal { return Principal{kind: Service, name: "biosv", id: "biosv"} }

// GuestOf is a domain that is known by its socket, which no other machine can reach.
func GuestOf(trustDomain, name string) Principal {
	return Principal{kind: Domain, name: name, id: DomainID(trustDomain, name).String()}
}

// Stranger is a peer that did not come as far as showing a certificate.
func Stranger() Principal {
	return Principal{kind: Unidentified, problem: &Problem{CertificateMissing, "no client certificate was shown"}}
}

// Problem says why a peer's certificate does not identify it. Code is for programs, Reason for people.
type Problem struct {
	Code   string
	Reason string
}

// The codes of a [Problem].
const (
	CertificateMissing   = "CertificateMissing"
	CertificateExpired   = "CertificateExpired"
	CertificateNotYet    = "CertificateNotYetValid"
	CertificateUntrusted = "CertificateUntrusted"
	CertificateWeak      = "CertificateWeak"
	CertificatePurpose   = "CertificateWrongPurpose"
	CertificateNameless  = "CertificateNameless"
)

// Error makes a Problem an error.
func (p *Problem) Error() string { return p.Reason }
