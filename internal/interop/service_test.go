//go:build e2e || interop

package interop

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"biosv/internal/testbed"
	"biosv/wsdl"
)

// root is the root of the tree, cache where what is not kept in it stands.
var (
	root  = testbed.Root
	cache = filepath.Join(root, ".cache", "interop")
)

// service is a running BIOS.v, with an admin's certificate and an authority that can take over its root.
type service struct {
	*testbed.Service
	url         string // https://localhost:PORT/bios
	roots       string // PEM: the service's root, and the authority's
	cert, key   string // PEM of the admin that the service makes at its first start
	ca, caKey   string // PEM of the authority
	operatorCSR string // PEM of a request for an operator's certificate
	schema      string // answers.xsd, beside it the schema that the service serves
}

// start runs the program on a fresh data folder until the test ends.
func start(t *testing.T) *service {
	t.Helper()
	running, dir := testbed.Start(t, testbed.Options{}), t.TempDir()
	address, err := url.Parse(running.URL)
	if err != nil {
		t.Fatalf("biosv serve tells the address %q: %v", running.URL, err)
	}
	s := &service{
		Service: running,
		url:     "https://localhost:" + address.Port() + "/bios",
		cert:    running.CertificateFile(), key: running.KeyFile(),
		ca: filepath.Join(dir, "ca.pem"), caKey: filepath.Join(dir, "ca.key"),
		roots: filepath.Join(dir, "roots.pem"), operatorCSR: filepath.Join(dir, "operator.csr"),
		schema: filepath.Join(dir, "answers.xsd"),
	}
	s.makeAuthority(t)
	own := read(t, running.RootFile())
	write(t, s.roots, append(own, read(t, s.ca)...))
	s.fetchContract(t)
	return s
}

// makeAuthority makes a company's certificate authority, and a request of an operator.
func (s *service) makeAuthority(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Interop test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(365 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, s.ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	write(t, s.caKey, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))

	operator, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "interop"}}, operator)
	if err != nil {
		t.Fatal(err)
	}
	write(t, s.operatorCSR, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr}))
}

// client is an HTTP client with the admin's certificate.
func (s *service) client(t *testing.T) *http.Client { return s.HTTP(t, s.Identity(t)) }

// fetchContract asserts that the contract that the service serves is the published one, with the address that
// the client used in it, and lays its schema beside those of SOAP.
func (s *service) fetchContract(t *testing.T) {
	t.Helper()
	want, err := wsdl.At(s.url)
	if err != nil {
		t.Fatal(err)
	}
	client := s.client(t)
	get := func(query string) []byte {
		res, err := client.Get(s.url + query)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("GET %s%s: %s, %v\n%s", s.url, query, res.Status, err, tail(body, 1000))
		}
		return body
	}
	if got := get("?wsdl"); string(got) != string(want.WSDL) {
		t.Errorf("the WSDL served is not the published one:\n%s", tail(got, 1000))
	}
	schema := get("?xsd=" + wsdl.SchemaName)
	if string(schema) != string(want.Schema) {
		t.Error("the schema served is not the published one")
	}
	dir := filepath.Dir(s.schema)
	write(t, filepath.Join(dir, wsdl.SchemaName), schema)
	for _, name := range []string{"answers.xsd", "soap11.xsd", "soap12.xsd"} {
		write(t, filepath.Join(dir, name), read(t, filepath.Join(root, "testdata", "interop", "xsd", name)))
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func tail(b []byte, most int) string { return string(b[max(0, len(b)-most):]) }
