package testca

import (
	"crypto/x509"
	"net/url"
	"testing"
	"time"

	"biosv/security"
)

// Principal makes the principal of a SPIFFE id the only way there is: an authenticator is shown a certificate.
func Principal(t testing.TB, id string) security.Principal {
	t.Helper()
	u, err := url.Parse(id)
	if err != nil {
		t.Fatal(err)
	}
	root := NewRoot(t, "root")
	a := security.NewAuthenticator(u.Host, time.Now)
	a.Trust(root.Chain(), nil)
	p := a.Authenticate(new(security.Session), []*x509.Certificate{root.Issue(t, Key(t).Public(), Named(id))})
	if p.Problem() != nil {
		t.Fatal(p.Problem())
	}
	return p
}
