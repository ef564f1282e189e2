//go:build e2e

package e2e

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"biosv/generated"
	"biosv/internal/testbed"
	"biosv/internal/testca"
)

// The chain that a client sees ends in a key that tpm2-tools, which know nothing of BIOS.v, read from the TPM.
func TestTheChainEndsInAKeyOfTheTPM(t *testing.T) {
	t.Parallel()
	s := testbed.Start(t, testbed.Options{Args: []string{"--tpm", "swtpm"}})
	seen := shown(t, s)
	root := certificate(t, s.RootFile())
	if last := seen[len(seen)-1]; !last.Equal(root) {
		t.Errorf("the chain shown ends in %s, and root.pem is %s", last.Subject, root.Subject)
	}
	if err := seen[0].CheckSignatureFrom(root); err != nil {
		t.Errorf("the TLS certificate is not signed by the root's key: %v", err)
	}
	told, err := s.Port(t).GetTrustState(t.Context(), testbed.At(""), &generated.GetTrustStateRequest{})
	if err != nil {
		t.Fatal(err)
	}
	trust := told.Trust
	if leaf := sha256.Sum256(seen[0].Raw); trust.LeafSha256 != hex.EncodeToString(leaf[:]) {
		t.Errorf("GetTrustState tells of the TLS certificate %s; shown was %x", trust.LeafSha256, leaf)
	}
	if *trust.TpmKind != generated.TpmKindSoftware || *trust.MeasurementSource != generated.MeasurementSourceSelfAsserted ||
		trust.PolicyVersion != 1 || trust.PolicyDigest == "" || len(trust.Pcr) != 1 {
		t.Errorf("GetTrustState tells %+v", trust)
	}
	if text := strings.Join(trust.Warning, "\n"); !strings.Contains(text, "Software TPM") || !strings.Contains(text, "self-asserted") {
		t.Errorf("GetTrustState warns: %s", text)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}

	tpm2 := testbed.TPM2(t, filepath.Join(s.Data, "tpm"))
	out := filepath.Join(t.TempDir(), "key.pem")
	about := must(tpm2("tpm2_readpublic", "-c", trust.IssuingKeyHandle, "-f", "pem", "-o", out))(t)
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	if block == nil || !bytes.Equal(block.Bytes, root.RawSubjectPublicKeyInfo) {
		t.Errorf("tpm2_readpublic reads another key:\n%s\nthe root's is %x", text, root.RawSubjectPublicKeyInfo)
	}
	if key := sha256.Sum256(root.RawSubjectPublicKeyInfo); trust.IssuingKeySha256 != hex.EncodeToString(key[:]) {
		t.Errorf("GetTrustState tells of the key %s; the root's is %x", trust.IssuingKeySha256, key)
	}
	// It was made in the TPM and cannot leave it; it is used by policy only, and signs no forged quote.
	attributes := regexp.MustCompile(`attributes:\s+value: (\S+)`).FindSubmatch(about)
	if attributes == nil || string(attributes[1]) != "fixedtpm|fixedparent|sensitivedataorigin|adminwithpolicy|noda|restricted|sign" {
		t.Errorf("the key's attributes are %s, in\n%s", attributes, about)
	}
	if ek := must(tpm2("tpm2_readpublic", "-c", "0x81010001"))(t); !strings.Contains(string(ek), "name: "+trust.EndorsementKeyName) {
		t.Errorf("the endorsement key is said to be %s, and is\n%s", trust.EndorsementKeyName, ek)
	}
}

func TestTheKeyStaysTheSameWhenTheServiceStartsAgain(t *testing.T) {
	t.Parallel()
	s := testbed.Start(t, testbed.Options{Args: []string{"--tpm", "swtpm"}})
	root, client := certificate(t, s.RootFile()), s.Identity(t)
	for _, end := range []func(){func() {
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
	}, func() { s.Kill() }} {
		end()
		s = testbed.Start(t, testbed.Options{Data: s.Data, Args: []string{"--tpm", "swtpm"}})
		if !certificate(t, s.RootFile()).Equal(root) {
			t.Error("the root is another one now")
		}
		if _, err := s.Port(t, client).ListOperators(t.Context(), testbed.At(""), &generated.ListOperatorsRequest{}); err != nil {
			t.Errorf("the admin's certificate from before: %v", err)
		}
	}
}

// A company's own authority, as openssl has one, vouches for the issuing key: the request goes out, the chain comes
// in, new connections are believed for the company's root, and one that is open goes on.
func TestACompanysAuthorityVouchesForTheKey(t *testing.T) {
	t.Parallel()
	s := testbed.Start(t, testbed.Options{Args: []string{"--tpm", "swtpm"}})
	open := s.HTTP(t, s.Identity(t))
	admin := port(s, open)
	before := shown(t, s)
	request, err := admin.CreateCertificateRequest(t.Context(), testbed.At(""), &generated.CreateCertificateRequestRequest{})
	if err != nil {
		t.Fatal(err)
	}
	company := newCompany(t)
	chain := company.certify(t, request.RequestPem)
	installed, err := admin.InstallCertificateChain(t.Context(), testbed.At(""), &generated.InstallCertificateChainRequest{ChainPem: chain})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(installed.Certificate); n != 2 || !strings.Contains(installed.Certificate[1].Subject, "Example Corp Root") {
		t.Errorf("installed were %d certificates: %+v", n, installed.Certificate)
	}

	reused := traced(t.Context(), func(reused bool) {
		if !reused {
			t.Error("the open connection did not go on")
		}
	})
	if _, err := admin.ListOperators(reused, testbed.At(""), &generated.ListOperatorsRequest{}); err != nil {
		t.Errorf("on the open connection: %v", err)
	}
	root := certificate(t, filepath.Join(company.dir, "root.pem"))
	if !certificate(t, s.RootFile()).Equal(root) {
		t.Error("root.pem is not the company's root")
	}
	after := shown(t, s) // which believes root.pem only
	if !bytes.Equal(after[1].RawSubjectPublicKeyInfo, before[1].RawSubjectPublicKeyInfo) {
		t.Error("another key stands below the company's root")
	}
	if _, err := s.Admin(t).ListOperators(t.Context(), testbed.At(""), &generated.ListOperatorsRequest{}); err != nil {
		t.Errorf("the admin on a new connection: %v", err)
	}
	// The company vouches for the service; what else it issues is not the service's, whatever name it bears.
	theirs := company.client(t, "spiffe://biosv.local/person/admin")
	if _, err := s.Port(t, theirs).ListOperators(t.Context(), testbed.At(""), &generated.ListOperatorsRequest{}); code(err) != "AuthenticationRequiredFault CertificateUntrusted" {
		t.Errorf("a certificate of the company's own, that names the admin: %v", err)
	}
	// openssl judges what the service shows, too.
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	verify := exec.CommandContext(t.Context(), "openssl", "s_client", "-connect", u.Host, "-CAfile", s.RootFile(), "-verify_return_error", "-verify_hostname", "localhost")
	if out, err := verify.CombinedOutput(); err != nil || !strings.Contains(string(out), "Verify return code: 0 (ok)") {
		t.Errorf("openssl does not believe it: %v\n%s", err, out)
	}

	// Another authority, which gives the key another name: what was issued under the names before stays valid.
	second := newCompany(t)
	renamed := second.certify(t, request.RequestPem, "-subj", "/O=Example Corp/CN=BIOS of Example Corp")
	vera := add(t, admin, "vera", generated.OperatorRoleViewer, testca.Key(t))
	if _, err := admin.InstallCertificateChain(t.Context(), testbed.At(""), &generated.InstallCertificateChainRequest{ChainPem: renamed}); err != nil {
		t.Fatal(err)
	}
	otto := add(t, admin, "otto", generated.OperatorRoleViewer, testca.Key(t))
	for name, identity := range map[string]tls.Certificate{"issued at first": s.Identity(t), "issued under the first authority": vera, "issued under the second": otto} {
		if _, err := s.Port(t, identity).GetDomain(t.Context(), testbed.At("demo"), &generated.GetDomainRequest{}); err != nil {
			t.Errorf("a certificate %s: %v", name, err)
		}
	}
	after = shown(t, s)

	other := newCompany(t)
	for name, row := range map[string]struct{ chain, code string }{
		"a chain for another key":        {other.certify(t, other.request(t)), "WrongKey"},
		"a root that did not sign it":    {chain[:strings.LastIndex(chain, "-----BEGIN")] + other.root(t), "BadSignature"},
		"the company's certificate only": {chain[:strings.LastIndex(chain, "-----BEGIN")], "BadSignature"},
		"no certificate":                 {"no certificate", "BadSignature"},
	} {
		_, err := admin.InstallCertificateChain(t.Context(), testbed.At(""), &generated.InstallCertificateChainRequest{ChainPem: row.chain})
		f, ok := err.(*generated.IntegrityFault)
		if !ok || f.Code != row.code {
			t.Errorf("%s: %v; want IntegrityFault %s", name, err, row.code)
		}
	}
	if again := shown(t, s); !again[1].Equal(after[1]) {
		t.Error("a chain that was refused is in force")
	}
}

// company is a certificate authority of openssl's.
type company struct{ dir string }

func newCompany(t *testing.T) company {
	t.Helper()
	c := company{t.TempDir()}
	c.openssl(t, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "root.key", "-out", "root.pem", "-days", "30",
		"-subj", "/O=Example Corp/CN=Example Corp Root", "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
	return c
}

func (c company) openssl(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "openssl", args...)
	cmd.Dir = c.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
}

// certify issues the certificate of an authority for a request, and gives it with the root.
func (c company) certify(t *testing.T, request string, args ...string) string {
	t.Helper()
	write(t, filepath.Join(c.dir, "request.pem"), request)
	write(t, filepath.Join(c.dir, "extensions"), "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n")
	c.openssl(t, append([]string{
		"x509", "-req", "-in", "request.pem", "-CA", "root.pem", "-CAkey", "root.key", "-CAcreateserial", "-days", "20", "-sha256", "-extfile", "extensions", "-out", "issued.pem",
	}, args...)...)
	return read(t, filepath.Join(c.dir, "issued.pem")) + c.root(t)
}

// client issues a certificate for a client of a name.
func (c company) client(t *testing.T, id string) tls.Certificate {
	t.Helper()
	c.request(t)
	write(t, filepath.Join(c.dir, "extensions"), "extendedKeyUsage=clientAuth\nsubjectAltName=URI:"+id+"\n")
	c.openssl(t, "x509", "-req", "-in", "other.csr", "-CA", "root.pem", "-CAkey", "root.key", "-CAcreateserial", "-days", "20", "-sha256", "-extfile", "extensions", "-out", "client.pem")
	pair, err := tls.LoadX509KeyPair(filepath.Join(c.dir, "client.pem"), filepath.Join(c.dir, "other.key"))
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

func (c company) root(t *testing.T) string { return read(t, filepath.Join(c.dir, "root.pem")) }

// request is one for a key that is not the service's.
func (c company) request(t *testing.T) string {
	t.Helper()
	c.openssl(t, "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "other.key", "-out", "other.csr", "-subj", "/CN=other")
	return read(t, filepath.Join(c.dir, "other.csr"))
}

// shown are the certificates that a new connection is shown, after they were verified.
func shown(t *testing.T, s *testbed.Service) []*x509.Certificate {
	t.Helper()
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(certificate(t, s.RootFile()))
	conn, err := tls.Dial("tcp", u.Host, &tls.Config{RootCAs: roots})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates
}

func certificate(t *testing.T, path string) *x509.Certificate {
	t.Helper()
	block, rest := pem.Decode([]byte(read(t, path)))
	if block == nil || len(bytes.TrimSpace(rest)) > 0 {
		t.Fatalf("%s is not one certificate", path)
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return c
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
