//go:build e2e || interop

package interop

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"biosv/wsdl"
)

// root is the root of the repository, cache where what is not kept in it stands.
var (
	root  = absolute("../..")
	cache = filepath.Join(root, ".cache", "interop")
)

func absolute(path string) string {
	p, err := filepath.Abs(path)
	if err != nil {
		panic(err)
	}
	return p
}

var program = sync.OnceValues(func() (string, error) {
	bin := filepath.Join(cache, "bin", "biosv")
	build := exec.Command("go", "build", "-o", bin, "./cmd/biosv")
	build.Dir = root
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build cmd/biosv: %w\n%s", err, out)
	}
	return bin, nil
})

// service is a running BIOS.v, with an admin's certificate and an authority that can take over its root.
type service struct {
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
	bin, err := program()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	serve := exec.Command(bin, "serve", "--data", data, "--listen", "127.0.0.1:0")
	serve.Dir = dir
	out, err := serve.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(dir, "log")
	logFile, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	serve.Stderr = logFile
	if err := serve.Start(); err != nil {
		t.Fatal(err)
	}
	told := make(chan string, 1)
	var reader sync.WaitGroup
	reader.Go(func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			fmt.Fprintln(logFile, lines.Text())
			if _, address, ok := strings.Cut(lines.Text(), "ready on https://"); ok {
				select {
				case told <- address:
				default:
				}
			}
		}
		close(told)
	})
	t.Cleanup(func() {
		serve.Process.Signal(syscall.SIGTERM)
		timer := time.AfterFunc(20*time.Second, func() { serve.Process.Kill() })
		reader.Wait()
		if err := serve.Wait(); err != nil {
			t.Errorf("biosv serve: %v", err)
		}
		timer.Stop()
		logFile.Close()
		if t.Failed() {
			text, _ := os.ReadFile(log)
			t.Logf("the service's log:\n%s", tail(text, 6000))
		}
	})
	var address string
	select {
	case a, ok := <-told:
		if !ok {
			t.Fatal("biosv serve ended before it was ready")
		}
		address, _, _ = strings.Cut(a, "/")
	case <-time.After(30 * time.Second):
		t.Fatal("biosv serve is not ready after 30 s")
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatalf("biosv serve tells the address %q: %v", address, err)
	}

	s := &service{
		url:  "https://localhost:" + port + "/bios",
		cert: filepath.Join(data, "clients", "admin.pem"), key: filepath.Join(data, "clients", "admin.key"),
		ca: filepath.Join(dir, "ca.pem"), caKey: filepath.Join(dir, "ca.key"),
		roots: filepath.Join(dir, "roots.pem"), operatorCSR: filepath.Join(dir, "operator.csr"),
		schema: filepath.Join(dir, "answers.xsd"),
	}
	s.makeAuthority(t)
	own := read(t, filepath.Join(data, "trust", "root.pem"))
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
func (s *service) client(t *testing.T) *http.Client {
	identity, err := tls.LoadX509KeyPair(s.cert, s.key)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(read(t, s.roots)) {
		t.Fatal("there is no root")
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{identity}}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 30 * time.Second}
}

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
