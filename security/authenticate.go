package security

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

// Authenticator turns the certificates that a TLS peer showed, and whose key it proved to hold, into a
// [Principal]. It follows RFC 5280 section 6 for the chain and the SPIFFE X.509-SVID specification for the
// name, and is judged anew at every request, so that a certificate which expires under an open connection
// stops working there. It is safe for concurrent use.
type Authenticator struct {
	trustDomain string
	clock       func() time.Time
	trust       atomic.Pointer[trust]
}

type trust struct {
	roots         *x509.CertPool
	intermediates []*x509.Certificate
}

// NewAuthenticator makes an Authenticator for identities of one trust domain. It trusts nothing until
// [Authenticator.Trust] names the roots.
func NewAuthenticator(trustDomain string, clock func() time.Time) *Authenticator {
	a := &Authenticator{trustDomain: trustDomain, clock: clock}
	a.trust.Store(&trust{roots: x509.NewCertPool()})
	return a
}

// Trust replaces the roots that peers' chains must end in, and the intermediate certificates that peers may
// leave out. Connections that are open are judged by the new ones from their next request on.
func (a *Authenticator) Trust(roots, intermediates []*x509.Certificate) {
	t := &trust{roots: x509.NewCertPool(), intermediates: intermediates}
	for _, c := range roots {
		t.roots.AddCert(c)
	}
	a.trust.Store(t)
}

// Session remembers for one connection that a chain's signatures were verified, so that later requests pay
// for dates and names only. The zero value is ready; it is for one connection and not for concurrent use
// without the caller's lock.
type Session struct {
	trust     *trust
	leaf      []byte
	principal Principal
	from, to  time.Time
}

// Authenticate judges the chain that a peer showed, leaf first. It always gives a principal: one of kind
// [Unidentified], with the reason, where the chain does not identify the peer.
func (a *Authenticator) Authenticate(s *Session, chain []*x509.Certificate) Principal {
	if len(chain) == 0 {
		return unidentified(CertificateMissing, "no client certificate was shown; show one issued by this service")
	}
	now, t := a.clock(), a.trust.Load()
	if s.trust == t && bytes.Equal(s.leaf, chain[0].Raw) && !now.Before(s.from) && !now.After(s.to) {
		return s.principal
	}
	p, from, to := a.judge(t, chain, now)
	*s = Session{}
	if p.kind != Unidentified {
		*s = Session{trust: t, leaf: chain[0].Raw, principal: p, from: from, to: to}
	}
	return p
}

func (a *Authenticator) judge(t *trust, chain []*x509.Certificate, now time.Time) (p Principal, from, to time.Time) {
	leaf := chain[0]
	refuse := func(code, format string, args ...any) (Principal, time.Time, time.Time) {
		return unidentified(code, format, args...), time.Time{}, time.Time{}
	}
	if err := strongEnough(leaf); err != nil {
		return refuse(CertificateWeak, "the client certificate is refused: %v", err)
	}
	// The chain is verified at a time inside the leaf's life first: a certificate of ours that is out of date
	// is told from one that was never ours.
	pool := x509.NewCertPool()
	for _, c := range t.intermediates {
		pool.AddCert(c)
	}
	for _, c := range chain[1:] {
		pool.AddCert(c)
	}
	at := now
	if at.Before(leaf.NotBefore) {
		at = leaf.NotBefore
	}
	if at.After(leaf.NotAfter) {
		at = leaf.NotAfter
	}
	chains, err := leaf.Verify(x509.VerifyOptions{
		Roots: t.roots, Intermediates: pool, CurrentTime: at,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		var invalid x509.CertificateInvalidError
		switch {
		case errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage:
			return refuse(CertificatePurpose, "the client certificate is not for client authentication (extended key usage clientAuth is missing)")
		case errors.As(err, &invalid) && invalid.Reason == x509.Expired && now.After(leaf.NotAfter):
			return refuse(CertificateExpired, "the client certificate expired on %s", leaf.NotAfter.UTC().Format(time.RFC3339))
		case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
			return refuse(CertificateExpired, "a certificate of the client's chain is out of date")
		}
		return refuse(CertificateUntrusted, "the client certificate was not issued by this service: %v", err)
	}
	if leaf.IsCA {
		return refuse(CertificatePurpose, "the client certificate is a certificate authority's; an end entity's is needed")
	}
	if now.Before(leaf.NotBefore) {
		return refuse(CertificateNotYet, "the client certificate is valid from %s on", leaf.NotBefore.UTC().Format(time.RFC3339))
	}
	if now.After(leaf.NotAfter) {
		return refuse(CertificateExpired, "the client certificate expired on %s", leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	p, err = a.identity(leaf)
	if err != nil {
		return refuse(CertificateNameless, "the client certificate names nobody: %v", err)
	}
	from, to = leaf.NotBefore, leaf.NotAfter
	for _, c := range chains[0] {
		if err := strongEnough(c); err != nil {
			return refuse(CertificateWeak, "%s, in the client's chain, is refused: %v", c.Subject, err)
		}
		if c.NotBefore.After(from) {
			from = c.NotBefore
		}
		if c.NotAfter.Before(to) {
			to = c.NotAfter
		}
	}
	return p, from, to
}

// identity reads the one SPIFFE id of a certificate (SPIFFE X.509-SVID, section 2).
func (a *Authenticator) identity(leaf *x509.Certificate) (Principal, error) {
	if len(leaf.URIs) != 1 {
		return Principal{}, fmt.Errorf("it has %d URI names; exactly one SPIFFE id is needed", len(leaf.URIs))
	}
	kind, name, err := ParseID(leaf.URIs[0], a.trustDomain)
	if err != nil {
		return Principal{}, err
	}
	return Principal{kind: kind, name: name, id: leaf.URIs[0].String()}, nil
}

// PersonID is the SPIFFE id of an operator.
func PersonID(trustDomain, name string) *url.URL { return id(trustDomain, "person", name) }

// DomainID is the SPIFFE id of a domain.
func DomainID(trustDomain, name string) *url.URL { return id(trustDomain, "domain", name) }

func id(trustDomain, kind, name string) *url.URL {
	return &url.URL{Scheme: "spiffe", Host: trustDomain, Path: "/" + kind + "/" + name}
}

// ParseID takes a SPIFFE id of the given trust domain apart: spiffe://TRUST-DOMAIN/person/NAME or
// spiffe://TRUST-DOMAIN/domain/NAME.
func ParseID(u *url.URL, trustDomain string) (Kind, string, error) {
	if u.Scheme != "spiffe" || u.Host != trustDomain || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return Nobody, "", fmt.Errorf("%q is no SPIFFE id of the trust domain %s", u, trustDomain)
	}
	kind, name, ok := strings.Cut(strings.TrimPrefix(u.EscapedPath(), "/"), "/")
	if !ok || name == "" || strings.Contains(name, "/") {
		return Nobody, "", fmt.Errorf("%q has no path of the form /person/NAME or /domain/NAME", u)
	}
	if !isSegment(name) {
		return Nobody, "", fmt.Errorf("%q has a name with characters other than letters, digits, dots, hyphens and underscores", u)
	}
	switch kind {
	case "person":
		return Person, name, nil
	case "domain":
		return Domain, name, nil
	}
	return Nobody, "", fmt.Errorf("%q is neither a person's nor a domain's id", u)
}

// isSegment says whether a name may stand in the path of a SPIFFE id (SPIFFE-ID, section 2.2): so that no two ids
// are one person, nothing in it is percent-encoded or has a meaning of its own.
func isSegment(name string) bool {
	for _, c := range name {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != '-' && c != '_' {
			return false
		}
	}
	return name != "." && name != ".."
}

// strongEnough refuses keys below 112 bits of security (NIST SP 800-57 part 1, table 2).
func strongEnough(c *x509.Certificate) error {
	switch k := c.PublicKey.(type) {
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < 2048 {
			return fmt.Errorf("its RSA key has %d bits; 2048 are needed", n)
		}
	case *ecdsa.PublicKey:
		if n := k.Curve.Params().BitSize; n < 256 {
			return fmt.Errorf("its curve has %d bits; 256 are needed", n)
		}
	case ed25519.PublicKey:
	default:
		return fmt.Errorf("its key is of a kind (%T) that is not supported; use ECDSA, RSA or Ed25519", c.PublicKey)
	}
	return nil
}

func unidentified(code, format string, args ...any) Principal {
	return Principal{kind: Unidentified, problem: &Problem{Code: code, Reason: fmt.Sprintf(format, args...)}}
}
