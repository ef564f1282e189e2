// Package testbed runs the program itself for tests: built once for each test binary, serving a data folder of the
// test's own on a free port of the loopback interface. Begin with [Start]; [Service.Admin] asks the service
// over SOAP as its first admin does.
package testbed

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"biosv/envelope"
	"biosv/generated"
)

// Root is the root of the tree.
var Root = func() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..")
}()

var program = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(Root, ".cache", "testbed")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	beside := filepath.Join(dir, fmt.Sprintf("building.%d", os.Getpid()))
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", beside, "./cmd/biosv")
	build.Dir = Root
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build cmd/biosv: %w\n%s", err, out)
	}
	// Test binaries run side by side, and a launch policy names the program's digest: the name is of the content, so
	// that no test finds another program under its path when it starts the service again.
	content, err := os.ReadFile(beside)
	if err != nil {
		return "", err
	}
	old, _ := filepath.Glob(filepath.Join(dir, "biosv-*")) // the pattern is a good one
	for _, path := range old {
		if info, err := os.Stat(path); err == nil && time.Since(info.ModTime()) > 24*time.Hour {
			_ = os.Remove(path)
		}
	}
	bin := filepath.Join(dir, fmt.Sprintf("biosv-%x", sha256.Sum256(content)))
	return bin, os.Rename(beside, bin)
})

// Program builds cmd/biosv, once, and gives its path.
func Program(t testing.TB) string {
	t.Helper()
	bin, err := program()
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

// Options say how a service is started. The zero value is an empty folder, and everything as the program has it.
type Options struct {
	Program string   // path of the program; empty means that it is built
	Data    string   // data folder; empty means a new one
	Args    []string // further arguments of biosv serve
	Env     []string // further variables of the environment
}

// Service is a running service.
type Service struct {
	URL  string // https://127.0.0.1:PORT/bios
	Data string // its data folder
	PID  int

	cmd   *exec.Cmd
	ended chan error // holds how the process ended
	log   lockedBuffer

	asking sync.Mutex
	admin  generated.Port // nil before it is asked for
	root   []byte         // that admin believes
}

const (
	startTime = 60 * time.Second
	stopTime  = 20 * time.Second
)

// Start starts a service and waits until it says that it is ready. It is stopped with the test; the test fails
// where it does not stop cleanly.
func Start(t testing.TB, o Options) *Service {
	t.Helper()
	bin := o.Program
	if bin == "" {
		bin = Program(t)
	}
	s := &Service{Data: o.Data, ended: make(chan error, 1)}
	if s.Data == "" {
		s.Data = filepath.Join(t.TempDir(), "data")
	}
	s.cmd = exec.Command(bin, append([]string{"serve", "--data", s.Data, "--listen", "127.0.0.1:0"}, o.Args...)...)
	s.cmd.Env = append(os.Environ(), o.Env...)
	s.cmd.Stderr = &s.log
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.PID = s.cmd.Process.Pid
	told := make(chan string, 1)
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if _, url, ok := strings.Cut(lines.Text(), "biosv: ready on "); ok {
				told <- url
			}
		}
		close(told)
		s.ended <- s.cmd.Wait()
	}()
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Errorf("biosv serve: %v", err)
		}
		if t.Failed() {
			text := s.Log()
			t.Logf("the service's log:\n%s", text[max(0, len(text)-6000):])
		}
	})
	select {
	case url, ok := <-told:
		if !ok {
			t.Fatalf("biosv serve ended before it was ready:\n%s", s.Log())
		}
		s.URL = url
	case <-time.After(startTime):
		t.Fatalf("biosv serve is not ready after %s", startTime)
	}
	return s
}

// Stop stops the service in order, as a service manager does, and gives the error that it ended with.
func (s *Service) Stop() error { return s.end(syscall.SIGTERM) }

// Kill kills it as a crash would.
func (s *Service) Kill() {
	_ = s.end(syscall.SIGKILL) // that it was killed is what is wanted
}

func (s *Service) end(signal os.Signal) error {
	if s.cmd == nil {
		return nil
	}
	defer func() { s.cmd = nil }()
	if err := s.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case err := <-s.ended:
		return err
	case <-time.After(stopTime):
		return errors.Join(fmt.Errorf("it does not stop within %s", stopTime), s.cmd.Process.Kill(), <-s.ended)
	}
}

// Log is what the service has logged.
func (s *Service) Log() string { return s.log.String() }

// RootFile is the certificate that clients pin; CertificateFile and KeyFile are the first admin's.
func (s *Service) RootFile() string        { return filepath.Join(s.Data, "trust", "root.pem") }
func (s *Service) CertificateFile() string { return filepath.Join(s.Data, "clients", "admin.pem") }
func (s *Service) KeyFile() string         { return filepath.Join(s.Data, "clients", "admin.key") }

// Identity is the first admin's certificate with its key.
func (s *Service) Identity(t testing.TB) tls.Certificate {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(s.CertificateFile(), s.KeyFile())
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// HTTP makes an HTTP client that believes the service and shows the certificates given; with none, it shows none.
func (s *Service) HTTP(t testing.TB, identity ...tls.Certificate) *http.Client {
	t.Helper()
	root, err := os.ReadFile(s.RootFile())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(root) {
		t.Fatalf("%s holds no certificate", s.RootFile())
	}
	config := &tls.Config{RootCAs: roots}
	if len(identity) > 0 {
		// Go's client leaves out a certificate that no authority named by the server issued; here it is to be shown.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &identity[0], nil }
	}
	transport := &http.Transport{TLSClientConfig: config, MaxIdleConnsPerHost: 16}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: time.Minute}
}

// Port asks the service over SOAP 1.2, with the certificates given.
func (s *Service) Port(t testing.TB, identity ...tls.Certificate) generated.Port {
	t.Helper()
	return generated.HandlerPort(&generated.Client{URL: s.URL, HTTP: s.HTTP(t, identity...), Version: envelope.SOAP12})
}

// Admin asks the service as its first admin. Whoever asks does so on the same connections: what asks again and again
// would use up those that the service has.
func (s *Service) Admin(t testing.TB) generated.Port {
	t.Helper()
	s.asking.Lock()
	defer s.asking.Unlock()
	root, err := os.ReadFile(s.RootFile())
	if err != nil {
		t.Fatal(err)
	}
	if s.admin == nil || !bytes.Equal(s.root, root) {
		s.admin, s.root = s.Port(t, s.Identity(t)), root
	}
	return s.admin
}

// At is the call that names a domain; empty means the address's own.
func At(domain string) generated.Call { return generated.Call{Domain: domain} }

// lockedBuffer is written by the process's reader and read by the test.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
