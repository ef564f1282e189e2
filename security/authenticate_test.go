package security_test

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"net/url"
	"strings"
	"testing"
	"time"

	"biosv/internal/testca"
	"biosv/security"
)

const (
	trustDomain = "biosv.test"
	alice       = "spiffe://biosv.test/person/alice"
)

// clock is a time that a test sets.
type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }

// bench is an authenticator that trusts one root.
type bench struct {
	*security.Authenticator
	clock clock
	root  *testca.Authority
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{clock: clock{time.Now()}, root: testca.NewRoot(t, "root")}
	b.Authenticator = security.NewAuthenticator(trustDomain, b.clock.Now)
	b.Trust([]*x509.Certificate{b.root.Certificate}, nil)
	return b
}

func publicKey[K crypto.Signer](t *testing.T, make func() (K, error)) crypto.PublicKey {
	t.Helper()
	k, err := make()
	if err != nil {
		t.Fatal(err)
	}
	return k.Public()
}

func rsaKey(bits int) func() (*rsa.PrivateKey, error) {
	return func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, bits) }
}

func ecKey(curve elliptic.Curve) func() (*ecdsa.PrivateKey, error) {
	return func() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(curve, rand.Reader) }
}

func TestAuthenticateBelievesWhoShowsACertificateOfOurs(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p256 := testca.Key(t).Public()
	for _, row := range []struct {
		name, id string
		key      crypto.PublicKey
		kind     security.Kind
		who      string
	}{
		{"a person with P-256", alice, p256, security.Person, "alice"},
		{"a person with P-384", alice, publicKey(t, ecKey(elliptic.P384())), security.Person, "alice"},
		{"a person with RSA-2048", alice, publicKey(t, rsaKey(2048)), security.Person, "alice"},
		{"a person with Ed25519", alice, ed.Public(), security.Person, "alice"},
		{"a domain", "spiffe://biosv.test/domain/web-1.example_2", p256, security.Domain, "web-1.example_2"},
	} {
		t.Run(row.name, func(t *testing.T) {
			leaf := b.root.Issue(t, row.key, testca.Named(row.id))
			p := b.Authenticate(new(security.Session), []*x509.Certificate{leaf})
			if p.Kind() != row.kind || p.Name() != row.who || p.String() != row.id || p.Problem() != nil {
				t.Errorf("it is %v %q %q, %v", p.Kind(), p.Name(), p, p.Problem())
			}
		})
	}
}

func TestAuthenticateSaysWhyItRefuses(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	now := b.clock.now
	other := testca.NewRoot(t, "another root")
	sameName := testca.NewRoot(t, "root")
	stale := b.root.Sub(t, "an authority out of date", testca.Valid(now.Add(-48*time.Hour), now.Add(-24*time.Hour)))
	forServers := b.root.Sub(t, "an authority for servers", testca.Usage(x509.ExtKeyUsageServerAuth))
	endEntity := testca.FromPair(b.root.Pair(t, testca.Named(alice)))
	rsa1024, err := rsaKey(1024)()
	if err != nil {
		t.Fatal(err)
	}
	weakBetween := testca.FromPair(tls.Certificate{Leaf: b.root.Certify(t, "a weak authority", rsa1024.Public()), PrivateKey: rsa1024})
	key := testca.Key(t).Public()
	x25519, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	named := testca.Named(alice)
	issue := func(edits ...testca.Edit) []*x509.Certificate {
		return []*x509.Certificate{b.root.Issue(t, key, append([]testca.Edit{named}, edits...)...)}
	}
	under := func(a *testca.Authority) []*x509.Certificate {
		return append([]*x509.Certificate{a.Issue(t, key, named)}, a.Chain()...)
	}
	names := func(ids ...string) []*x509.Certificate {
		return []*x509.Certificate{b.root.Issue(t, key, testca.Named(ids...))}
	}
	weak := func(k crypto.PublicKey) []*x509.Certificate {
		return []*x509.Certificate{b.root.Issue(t, k, named)}
	}
	for _, row := range []struct {
		name  string
		chain []*x509.Certificate
		code  string
		says  string
	}{
		{"no certificate", nil, security.CertificateMissing, "no client certificate"},
		{"another root", under(other), security.CertificateUntrusted, "was not issued by this service"},
		{"another root of the same name", under(sameName), security.CertificateUntrusted, "was not issued by this service"},
		{"a root that was sent along is not trusted for that", []*x509.Certificate{sameName.Issue(t, key, named), sameName.Certificate}, security.CertificateUntrusted, ""},
		{"the root itself", b.root.Chain(), security.CertificatePurpose, "certificate authority's"},
		{"expired", issue(testca.Valid(now.Add(-2*time.Hour), now.Add(-time.Hour))), security.CertificateExpired, "expired on"},
		{"expired, before its issuer's was valid", issue(testca.Valid(now.Add(-3*time.Hour), now.Add(-2*time.Hour))), security.CertificateExpired, "expired on"},
		{"not yet valid", issue(testca.Valid(now.Add(time.Hour), now.Add(2*time.Hour))), security.CertificateNotYet, "valid from"},
		{"expired, of another root", []*x509.Certificate{other.Issue(t, key, named, testca.Valid(now.Add(-2*time.Hour), now.Add(-time.Hour)))}, security.CertificateUntrusted, ""},
		{"an authority between that is out of date", under(stale), security.CertificateExpired, "chain is out of date"},
		{"for servers", issue(testca.Usage(x509.ExtKeyUsageServerAuth)), security.CertificatePurpose, "clientAuth"},
		{"an authority between that is for servers", under(forServers), security.CertificatePurpose, "clientAuth"},
		{"an authority's, as an end entity's", issue(func(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, c.KeyUsage|x509.KeyUsageCertSign }), security.CertificatePurpose, "certificate authority's"},
		{"issued by an end entity", under(endEntity), security.CertificateUntrusted, ""},
		{"RSA-1024", weak(rsa1024.Public()), security.CertificateWeak, "1024 bits"},
		{"an authority between with RSA-1024", under(weakBetween), security.CertificateWeak, "a weak authority"},
		{"P-224", weak(publicKey(t, ecKey(elliptic.P224()))), security.CertificateWeak, "224 bits"},
		{"X25519", []*x509.Certificate{{PublicKey: x25519.Public()}}, security.CertificateWeak, "not supported"},
		{"no name", names(), security.CertificateNameless, "0 URI names"},
		{"two names", names(alice, "spiffe://biosv.test/person/bob"), security.CertificateNameless, "2 URI names"},
		{"another trust domain", names("spiffe://example.org/person/alice"), security.CertificateNameless, "trust domain biosv.test"},
		{"the trust domain as a beginning", names("spiffe://biosv.test.example.org/person/alice"), security.CertificateNameless, "trust domain"},
		{"a port", names("spiffe://biosv.test:443/person/alice"), security.CertificateNameless, "trust domain"},
		{"a user", names("spiffe://root@biosv.test/person/alice"), security.CertificateNameless, "trust domain"},
		{"a query", names(alice + "?admin=1"), security.CertificateNameless, "trust domain"},
		{"a fragment", names(alice + "#admin"), security.CertificateNameless, "trust domain"},
		{"https", names("https://biosv.test/person/alice"), security.CertificateNameless, "trust domain"},
		{"a service", names("spiffe://biosv.test/service/biosv"), security.CertificateNameless, "neither a person's nor a domain's"},
		{"no kind", names("spiffe://biosv.test/alice"), security.CertificateNameless, "/person/NAME"},
		{"an empty name", names("spiffe://biosv.test/person/"), security.CertificateNameless, "/person/NAME"},
		{"a longer path", names("spiffe://biosv.test/person/alice/admin"), security.CertificateNameless, "/person/NAME"},
		{"a slash in disguise", names("spiffe://biosv.test/person/alice%2fadmin"), security.CertificateNameless, "characters"},
		{"a letter in disguise", names("spiffe://biosv.test/person/%61lice"), security.CertificateNameless, "characters"},
		{"a character that no name has", names("spiffe://biosv.test/person/al%20ice"), security.CertificateNameless, "characters"},
		{"the folder above", names("spiffe://biosv.test/person/.."), security.CertificateNameless, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := b.Authenticate(new(security.Session), row.chain)
			problem := p.Problem()
			if p.Kind() != security.Unidentified || problem == nil {
				t.Fatalf("it is %v %q", p.Kind(), p)
			}
			if problem.Code != row.code || !strings.Contains(problem.Reason, row.says) || problem.Error() == "" {
				t.Errorf("the refusal is %s: %q; want %s with %q", problem.Code, problem.Reason, row.code, row.says)
			}
			if p.Name() != "" || p.String() != "unidentified" {
				t.Errorf("it has the name %q and is called %q", p.Name(), p)
			}
		})
	}
}

func TestAuthenticateFindsIntermediatesThatAPeerLeavesOut(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	sub := b.root.Sub(t, "between")
	leaf := sub.Issue(t, testca.Key(t).Public(), testca.Named(alice))
	sent, omitted := []*x509.Certificate{leaf, sub.Certificate}, []*x509.Certificate{leaf}
	kind := func(chain []*x509.Certificate) security.Kind {
		return b.Authenticate(new(security.Session), chain).Kind()
	}
	if got := kind(sent); got != security.Person {
		t.Errorf("sent by the peer: %v", got)
	}
	if got := kind(omitted); got != security.Unidentified {
		t.Errorf("left out, and not known: %v", got)
	}
	b.Trust([]*x509.Certificate{b.root.Certificate}, []*x509.Certificate{sub.Certificate})
	if got := kind(omitted); got != security.Person {
		t.Errorf("left out, and known: %v", got)
	}
	if got := kind(append(sent, testca.NewRoot(t, "noise").Certificate)); got != security.Person {
		t.Errorf("sent with more than is needed: %v", got)
	}
}

func TestACertificateThatExpiresStopsWorkingOnAnOpenConnection(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	now := b.clock.now
	ends := now.Add(time.Minute).Truncate(time.Second)
	sub := b.root.Sub(t, "between", testca.Valid(now.Add(-time.Hour), ends))
	for name, chain := range map[string][]*x509.Certificate{
		"the leaf's end":         {b.root.Issue(t, testca.Key(t).Public(), testca.Named(alice), testca.Valid(now.Add(-time.Hour), ends))},
		"the end of one between": {sub.Issue(t, testca.Key(t).Public(), testca.Named(alice)), sub.Certificate},
	} {
		t.Run(name, func(t *testing.T) {
			var s security.Session
			for _, row := range []struct {
				at   time.Time
				want security.Kind
			}{
				{now, security.Person}, {ends, security.Person}, {ends.Add(time.Second), security.Unidentified},
				{now, security.Person}, // the clock was set back
			} {
				b.clock.now = row.at
				if got := b.Authenticate(&s, chain); got.Kind() != row.want {
					t.Errorf("%s before its end it is %v (%v)", ends.Sub(row.at), got.Kind(), got.Problem())
				}
			}
		})
	}
}

func TestTrustThatIsReplacedCountsOnAnOpenConnectionAtOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	chain := []*x509.Certificate{b.root.Issue(t, testca.Key(t).Public(), testca.Named(alice))}
	var s security.Session
	if p := b.Authenticate(&s, chain); p.Kind() != security.Person {
		t.Fatal(p.Problem())
	}
	b.Trust([]*x509.Certificate{testca.NewRoot(t, "another").Certificate}, nil)
	if p := b.Authenticate(&s, chain); p.Kind() != security.Unidentified || p.Problem().Code != security.CertificateUntrusted {
		t.Errorf("after its root was replaced it is %v (%v)", p.Kind(), p.Problem())
	}
	b.Trust([]*x509.Certificate{b.root.Certificate}, nil)
	if p := b.Authenticate(&s, chain); p.Kind() != security.Person {
		t.Errorf("after its root came back: %v", p.Problem())
	}
}

func TestASessionDoesNotLendItsIdentity(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	mine := []*x509.Certificate{b.root.Issue(t, testca.Key(t).Public(), testca.Named(alice))}
	theirs := []*x509.Certificate{testca.NewRoot(t, "root").Issue(t, testca.Key(t).Public(), testca.Named("spiffe://biosv.test/person/mallory"))}
	var s security.Session
	for _, row := range []struct {
		chain []*x509.Certificate
		want  security.Kind
	}{{mine, security.Person}, {theirs, security.Unidentified}, {nil, security.Unidentified}, {mine, security.Person}} {
		if got := b.Authenticate(&s, row.chain).Kind(); got != row.want {
			t.Errorf("it is %v; want %v", got, row.want)
		}
	}
}

func TestAnAuthenticatorThatWasToldOfNoRootTrustsNobody(t *testing.T) {
	t.Parallel()
	a := security.NewAuthenticator(trustDomain, time.Now)
	root := testca.NewRoot(t, "root")
	chain := []*x509.Certificate{root.Issue(t, testca.Key(t).Public(), testca.Named(alice)), root.Certificate}
	if p := a.Authenticate(new(security.Session), chain); p.Kind() != security.Unidentified || p.Problem().Code != security.CertificateUntrusted {
		t.Errorf("it is %v (%v)", p.Kind(), p.Problem())
	}
}

func TestIDsAreReadAsTheyAreMade(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		id   *url.URL
		kind security.Kind
	}{{security.PersonID(trustDomain, "alice"), security.Person}, {security.DomainID(trustDomain, "alice"), security.Domain}} {
		kind, name, err := security.ParseID(row.id, trustDomain)
		if kind != row.kind || name != "alice" || err != nil {
			t.Errorf("%s is %v %q, %v", row.id, kind, name, err)
		}
	}
}

func TestPrincipalsAreNamedForLogs(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		principal security.Principal
		kind      security.Kind
		name      string
	}{
		{security.Principal{}, security.Nobody, "nobody"},
		{security.Local(), security.Service, "biosv"},
		{security.Stranger(), security.Unidentified, "unidentified"},
	} {
		if row.principal.Kind() != row.kind || row.principal.String() != row.name {
			t.Errorf("it is %v %q; want %v %q", row.principal.Kind(), row.principal, row.kind, row.name)
		}
	}
	if p := security.Stranger().Problem(); p == nil || p.Code != security.CertificateMissing {
		t.Errorf("a stranger's problem is %v", p)
	}
	if got := security.Role(99).String(); got != "role(99)" {
		t.Errorf("a role that is none is %q", got)
	}
}
