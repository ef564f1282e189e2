package pki_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"biosv/internal/testca"
	"biosv/security/pki"
)

const trustDomain = "biosv.test"

var alice = &url.URL{Scheme: "spiffe", Host: trustDomain, Path: "/person/alice"}

// bench is an issuer in a folder of its own, with a key of the test's.
type bench struct {
	*pki.Issuer
	key crypto.Signer
	dir string
	now time.Time
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{key: testca.Key(t), dir: t.TempDir(), now: time.Now()}
	b.open(t)
	return b
}

func (b *bench) open(t *testing.T) {
	t.Helper()
	i, err := pki.Open(b.key, b.dir, trustDomain, func() time.Time { return b.now })
	if err != nil {
		t.Fatal(err)
	}
	b.Issuer = i
}

func (b *bench) file(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(b.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// company certifies the issuing key under an authority.
func (b *bench) company(t *testing.T, a *testca.Authority, edits ...testca.Edit) []byte {
	t.Helper()
	issuing := a.Certify(t, "the issuing key", b.key.Public(), edits...)
	return testca.PEM(append([]*x509.Certificate{issuing}, a.Chain()...)...)
}

// believed verifies a certificate against the anchors, as the authenticator does, and gives how long it is valid.
func (b *bench) believed(t *testing.T, c *x509.Certificate) {
	t.Helper()
	roots := x509.NewCertPool()
	for _, a := range b.Anchors() {
		roots.AddCert(a)
	}
	if _, err := c.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: b.now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Errorf("it is not believed: %v", err)
	}
}

func request(t *testing.T, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "emperor"}, DNSNames: []string{"example.org"}, URIs: []*url.URL{{Scheme: "spiffe", Host: trustDomain, Path: "/person/emperor"}},
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestTheIssuingKeyCertifiesItself(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	root := b.Chain()[0]
	if len(b.Chain()) != 1 || !root.PublicKey.(*ecdsa.PublicKey).Equal(b.key.Public()) || root.CheckSignatureFrom(root) != nil {
		t.Fatalf("the chain is %v", b.Chain())
	}
	if !root.IsCA || !root.MaxPathLenZero || root.MaxPathLen != 0 || root.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign || len(root.ExtKeyUsage) != 0 ||
		root.Subject.CommonName != "BIOS.v issuing key of "+trustDomain || len(root.SubjectKeyId) == 0 {
		t.Errorf("the root is %+v", root)
	}
	if life := root.NotAfter.Sub(b.now); life < 19*365*24*time.Hour || root.NotBefore.After(b.now) {
		t.Errorf("it is valid from %s to %s", root.NotBefore, root.NotAfter)
	}
	if !bytes.Equal(b.file(t, pki.RootFile), testca.PEM(root)) {
		t.Error("root.pem is not the root")
	}
	b.open(t)
	if !b.Chain()[0].Equal(root) {
		t.Error("opened again, it is another one")
	}
	for _, damage := range []func() error{
		func() error { return os.Remove(filepath.Join(b.dir, pki.RootFile)) },
		func() error { return os.WriteFile(filepath.Join(b.dir, pki.RootFile), []byte("half"), 0o644) },
	} {
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		b.open(t)
		if !bytes.Equal(b.file(t, pki.RootFile), testca.PEM(root)) {
			t.Error("root.pem was not made again")
		}
	}
}

func TestAFolderOfAnotherKeyIsRefused(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	if _, err := pki.Open(testca.Key(t), b.dir, trustDomain, time.Now); !errors.Is(err, pki.ErrKey) || !strings.Contains(err.Error(), b.dir) {
		t.Errorf("with another key: %v", err)
	}
	// A certificate for another key among the anchors would let that key issue.
	other := testca.NewRoot(t, "another")
	if err := os.WriteFile(filepath.Join(b.dir, "anchors.pem"), append(b.file(t, "anchors.pem"), testca.PEM(other.Certificate)...), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := pki.Open(b.key, b.dir, trustDomain, time.Now); !errors.Is(err, pki.ErrKey) {
		t.Errorf("with an anchor for another key: %v", err)
	}
	b = newBench(t)
	if err := os.WriteFile(filepath.Join(b.dir, "chain.pem"), []byte("damaged"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := pki.Open(b.key, b.dir, trustDomain, time.Now); !errors.Is(err, pki.ErrChain) {
		t.Errorf("with a chain that is none: %v", err)
	}
}

func TestACompanysChainIsInstalled(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	own := b.Chain()[0]
	before, err := b.IssueClient(request(t, testca.Key(t)), alice)
	if err != nil {
		t.Fatal(err)
	}
	root := testca.NewRoot(t, "a root")
	between := root.Sub(t, "between")
	for n, chain := range [][]byte{
		b.company(t, root), b.company(t, between), b.company(t, root, func(c *x509.Certificate) { c.RawSubject = own.RawSubject }),
		append([]byte("Subject: the issuing key\n"), b.company(t, root)...), // as openssl writes it
	} {
		installed, err := b.InstallChain(chain)
		if err != nil {
			t.Fatalf("chain %d: %v", n, err)
		}
		if got := b.Chain(); len(got) != len(installed) || !got[len(got)-1].Equal(root.Certificate) {
			t.Errorf("chain %d: in force is %v", n, got)
		}
		if !bytes.Equal(b.file(t, pki.RootFile), testca.PEM(root.Certificate)) {
			t.Errorf("chain %d: root.pem is not the company's root", n)
		}
		after, err := b.IssueClient(request(t, testca.Key(t)), alice)
		if err != nil {
			t.Fatal(err)
		}
		b.believed(t, before)
		b.believed(t, after)
		b.open(t)
		b.believed(t, before)
		b.believed(t, after)
		if text := string(b.PEM(after)); strings.Count(text, "BEGIN CERTIFICATE") != 1+len(installed) {
			t.Errorf("chain %d: a certificate is given as\n%s", n, text)
		}
	}
	for _, a := range b.Anchors() {
		if !a.PublicKey.(*ecdsa.PublicKey).Equal(b.key.Public()) {
			t.Errorf("%s is an anchor", a.Subject)
		}
	}
}

// Whoever has the company's root may be believed by the service's clients; to the service itself he is nobody.
func TestWhatTheCompanyIssuesElsewhereIsNotOurs(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	root := testca.NewRoot(t, "a root")
	if _, err := b.InstallChain(b.company(t, root)); err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	for _, a := range b.Anchors() {
		roots.AddCert(a)
	}
	theirs := root.Issue(t, testca.Key(t).Public(), testca.Named(alice.String()))
	if _, err := theirs.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err == nil {
		t.Error("it is believed")
	}
}

func TestEveryWrongChainIsRefused(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	now := b.now
	root, other, noAuthority := testca.NewRoot(t, "a root"), testca.NewRoot(t, "a root"), testca.FromPair(testca.NewRoot(t, "a root").Pair(t))
	plain := func(c *x509.Certificate) { c.IsCA, c.KeyUsage = false, x509.KeyUsageDigitalSignature }
	strict := testca.NewRoot(t, "a root", func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true })
	strictBetween := root.Sub(t, "between", func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true })
	forMail := root.Sub(t, "for mail", testca.Usage(x509.ExtKeyUsageEmailProtection))
	past, future := testca.Valid(now.Add(-2*time.Hour), now.Add(-time.Hour)), testca.Valid(now.Add(time.Hour), now.Add(2*time.Hour))
	for _, row := range []struct {
		name  string
		chain []byte
		want  error
	}{
		{"nothing", nil, pki.ErrChain},
		{"a text", []byte("no certificate"), pki.ErrChain},
		{"a text behind it", append(b.company(t, root), "and more"...), pki.ErrChain},
		{"a private key", []byte("-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n"), pki.ErrChain},
		{"a block that is no certificate", []byte("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"), pki.ErrChain},
		{"nine certificates", bytes.Repeat(testca.PEM(root.Certificate), 9), pki.ErrChain},
		{"another key's", testca.PEM(testca.NewRoot(t, "x").Certificate), pki.ErrKey},
		{"the root first", testca.PEM(root.Certificate, root.Certify(t, "k", b.key.Public())), pki.ErrKey},
		{"without a root", testca.PEM(root.Certify(t, "k", b.key.Public())), pki.ErrChain},
		{"another root of the same name", testca.PEM(root.Certify(t, "k", b.key.Public()), other.Certificate), pki.ErrSignature},
		{"one too many between", testca.PEM(root.Certify(t, "k", b.key.Public()), root.Sub(t, "between").Certificate, root.Certificate), pki.ErrSignature},
		{"no authority's", b.company(t, root, plain), pki.ErrChain},
		{"without the right to sign certificates", b.company(t, root, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }), pki.ErrChain},
		{"signed by an end entity", testca.PEM(noAuthority.Certify(t, "k", b.key.Public()), noAuthority.Certificate, root.Certificate), pki.ErrSignature},
		{"out of date", b.company(t, root, past), pki.ErrChain},
		{"not yet valid", b.company(t, root, future), pki.ErrChain},
		{"a root out of date", b.company(t, testca.NewRoot(t, "a root", past)), pki.ErrChain},
		{"one between out of date", b.company(t, root.Sub(t, "between", past)), pki.ErrChain},
		{"a root that allows no authority below", b.company(t, strict), pki.ErrChain},
		{"one between that allows none below", b.company(t, strictBetween), pki.ErrChain},
		{"one between that is for mail", b.company(t, forMail), pki.ErrChain},
		{"for servers only", b.company(t, root, testca.Usage(x509.ExtKeyUsageServerAuth)), pki.ErrChain},
		{"for clients only", b.company(t, root, testca.Usage(x509.ExtKeyUsageClientAuth)), pki.ErrChain},
		{"for names of another domain", b.company(t, root, func(c *x509.Certificate) {
			c.PermittedURIDomains, c.PermittedDNSDomainsCritical = []string{"example.org"}, true
		}), pki.ErrChain},
	} {
		files := string(b.file(t, "chain.pem")) + string(b.file(t, "root.pem")) + string(b.file(t, "anchors.pem"))
		if _, err := b.InstallChain(row.chain); !errors.Is(err, row.want) {
			t.Errorf("%s: %v; want %v", row.name, err, row.want)
		}
		if len(b.Chain()) != 1 || string(b.file(t, "chain.pem"))+string(b.file(t, "root.pem"))+string(b.file(t, "anchors.pem")) != files {
			t.Fatalf("%s: it was installed", row.name)
		}
	}
	for name, chain := range map[string][]byte{
		"a path length that is enough": b.company(t, testca.NewRoot(t, "r", func(c *x509.Certificate) { c.MaxPathLen = 1 }), func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true }),
		"for servers and clients":      b.company(t, root, testca.Usage(x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth)),
		"for names of our domain": b.company(t, root, func(c *x509.Certificate) {
			c.PermittedURIDomains, c.PermittedDNSDomainsCritical = []string{trustDomain}, true
		}),
	} {
		if _, err := b.InstallChain(chain); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAnIssuingCertificateThatEndedIssuesNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ends := b.now.Add(time.Hour).Truncate(time.Second)
	if _, err := b.InstallChain(b.company(t, testca.NewRoot(t, "a root"), testca.Valid(b.now.Add(-time.Hour), ends))); err != nil {
		t.Fatal(err)
	}
	c, err := b.IssueClient(request(t, testca.Key(t)), alice)
	if err != nil || !c.NotAfter.Equal(ends) {
		t.Errorf("a certificate outlives its issuer's: until %s, %v", c.NotAfter, err)
	}
	b.now = ends.Add(time.Second)
	if _, err := b.IssueClient(request(t, testca.Key(t)), alice); err == nil || !strings.Contains(err.Error(), "ended on") {
		t.Errorf("after its end: %v", err)
	}
	if _, err := pki.Open(b.key, b.dir, trustDomain, func() time.Time { return b.now }); !errors.Is(err, pki.ErrChain) || !strings.Contains(err.Error(), "certifies itself again") {
		t.Errorf("opened after its end: %v", err)
	}
	if err := os.Remove(filepath.Join(b.dir, "chain.pem")); err != nil {
		t.Fatal(err)
	}
	b.open(t)
	if c, err = b.IssueClient(request(t, testca.Key(t)), alice); err != nil {
		t.Fatal(err)
	}
	b.believed(t, c)
}

func TestACertificateForAClientIsWhatItShouldBe(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	r2048, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	serials := map[string]bool{}
	for _, key := range []crypto.Signer{testca.Key(t), ed, r2048, testca.Key(t)} {
		c, err := b.IssueClient(request(t, key), alice)
		if err != nil {
			t.Fatalf("%T: %v", key, err)
		}
		b.believed(t, c)
		if len(c.URIs) != 1 || c.URIs[0].String() != alice.String() || c.Subject.CommonName != "alice" || len(c.DNSNames) != 0 {
			t.Errorf("%T: it names %v, %s, %v", key, c.URIs, c.Subject, c.DNSNames)
		}
		if c.IsCA || !c.BasicConstraintsValid || c.KeyUsage != x509.KeyUsageDigitalSignature || fmt.Sprint(c.ExtKeyUsage) != fmt.Sprint([]x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}) {
			t.Errorf("%T: it is for %v, %v, an authority: %v", key, c.KeyUsage, c.ExtKeyUsage, c.IsCA)
		}
		if got := c.NotAfter.Sub(b.now); got > 397*24*time.Hour || got < 396*24*time.Hour || b.now.Sub(c.NotBefore) > 6*time.Minute {
			t.Errorf("%T: it is valid from %s to %s", key, c.NotBefore, c.NotAfter)
		}
		if c.SerialNumber.Sign() <= 0 || c.SerialNumber.BitLen() > 127 || serials[c.SerialNumber.String()] {
			t.Errorf("%T: its serial number is %s", key, c.SerialNumber)
		}
		serials[c.SerialNumber.String()] = true
	}
}

func TestARequestThatIsNotRightIsRefused(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	r1024, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := request(t, testca.Key(t))
	forged := bytes.Clone(good)
	forged[len(forged)-1] ^= 1
	for _, row := range []struct {
		name    string
		request []byte
		want    error
	}{
		{"nothing", nil, pki.ErrRequest}, {"a text", []byte("x"), pki.ErrRequest}, {"half of one", good[:len(good)/2], pki.ErrRequest},
		{"a forged signature", forged, pki.ErrSignature}, {"RSA-1024", request(t, r1024), pki.ErrRequest}, {"P-224", request(t, p224), pki.ErrRequest},
	} {
		if c, err := b.IssueClient(row.request, alice); !errors.Is(err, row.want) || c != nil {
			t.Errorf("%s: %v; want %v", row.name, err, row.want)
		}
	}
}

func TestTheRequestForTheIssuingKeyIsSignedByIt(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	text, err := b.CertificateRequest()
	if err != nil {
		t.Fatal(err)
	}
	block, rest := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE REQUEST" || len(rest) > 0 {
		t.Fatalf("it is %s", text)
	}
	r, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil || r.CheckSignature() != nil || !r.PublicKey.(*ecdsa.PublicKey).Equal(b.key.Public()) || !bytes.Equal(r.RawSubject, b.Chain()[0].RawSubject) {
		t.Errorf("%v, %v", r, err)
	}
}

// restricted signs messages and no digests, as a restricted key of a TPM does.
type restricted struct{ *ecdsa.PrivateKey }

func (restricted) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("it signs no digests")
}

func (r restricted) SignMessage(random io.Reader, message []byte, o crypto.SignerOpts) ([]byte, error) {
	h := o.HashFunc().New()
	h.Write(message)
	return r.PrivateKey.Sign(random, h.Sum(nil), o)
}

func TestAKeyThatHashesByItselfIssues(t *testing.T) {
	t.Parallel()
	b := &bench{key: restricted{testca.Key(t)}, dir: t.TempDir(), now: time.Now()}
	b.open(t)
	c, err := b.IssueClient(request(t, testca.Key(t)), alice)
	if err != nil {
		t.Fatal(err)
	}
	b.believed(t, c)
	if _, err := b.CertificateRequest(); err != nil {
		t.Error(err)
	}
}

func TestTheFirstAdminsFiles(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	dir := filepath.Join(t.TempDir(), "clients")
	ensure := func() *x509.Certificate {
		t.Helper()
		if err := b.EnsureClient(dir, "admin", alice); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(dir, "admin.pem"))
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(text)
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		b.believed(t, c)
		return c
	}
	first := ensure()
	for _, name := range []string{"admin.pem", "admin.key"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	if !ensure().Equal(first) {
		t.Error("a certificate that is good was made anew")
	}
	b.now = first.NotAfter.Add(-31 * 24 * time.Hour)
	if !ensure().Equal(first) {
		t.Error("a certificate that is good for a month was made anew")
	}
	b.now = first.NotAfter.Add(-29 * 24 * time.Hour)
	second := ensure()
	if second.Equal(first) || !second.PublicKey.(*ecdsa.PublicKey).Equal(first.PublicKey) {
		t.Error("a certificate that is about to end was not made anew, for the same key")
	}
	b.key = testca.Key(t) // another issuing key
	b.dir = t.TempDir()
	b.open(t)
	if third := ensure(); third.Equal(second) {
		t.Error("under another issuing key it was not made anew")
	}
	if err := os.WriteFile(filepath.Join(dir, "admin.pem"), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	ensure()
	if err := os.WriteFile(filepath.Join(dir, "admin.key"), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.EnsureClient(dir, "admin", alice); err == nil || !strings.Contains(err.Error(), "admin.key") {
		t.Errorf("a damaged key: %v", err)
	}
	// A key that was moved away is in use elsewhere: its certificate stays as it is.
	if err := os.Remove(filepath.Join(dir, "admin.key")); err != nil {
		t.Fatal(err)
	}
	before := ensure()
	if _, err := os.Stat(filepath.Join(dir, "admin.key")); err == nil || !ensure().Equal(before) {
		t.Error("a key that was moved away was made anew")
	}
}

func TestAKeyOfAFileStaysTheSame(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "tpm", "issuing.key")
	first, err := pki.FileKey(path)
	if err != nil {
		t.Fatal(err)
	}
	if second, err := pki.FileKey(path); err != nil || !second.Equal(first) {
		t.Errorf("it is another one now: %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(rsaKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{
		"nothing": {}, "a text": []byte("x"), "no key": []byte("-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n"),
		"an RSA key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
	} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := pki.FileKey(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
		if left, err := os.ReadFile(path); err != nil || !bytes.Equal(left, text) {
			t.Errorf("%s was replaced (%v)", name, err)
		}
	}
}
