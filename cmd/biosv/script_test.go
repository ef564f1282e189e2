package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) { testscript.Main(m, map[string]func(){"biosv": main}) }

// The scripts tell the whole command line, one behaviour each, against the program itself. Beside what testscript has,
// they know:
//
//	start FLAG...         starts a service on $BIOSV_DATA, with a file for a TPM, and waits until it is ready
//	terminate             stops it as a service manager does; it must end with 0
//	crash                 kills it as a crash would
//	fails CODE ARG...     biosv ARG... must end with that exit code, and print nothing but errors
//	until PATTERN ARG...  biosv ARG... is run until what it prints matches
//	csr NAME              makes NAME.key and a certificate request for it, NAME.csr
//	company CSR CHAIN     is a company's authority: it makes an authority of who asks, and writes the chain
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("BIOSV_DATA", filepath.Join(env.WorkDir, "data"))
			s := &service{folder: env.WorkDir}
			env.Values[theService] = s
			env.Defer(func() {
				if s.cmd != nil {
					env.T().Log("at the end of the script the service ends with:", s.end(syscall.SIGTERM))
				}
			})
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"start": start, "terminate": terminate, "crash": crash, "fails": fails, "until": until, "csr": csr, "company": company,
		},
	})
}

// patience is how long a script waits for anything.
const patience = 20 * time.Second

type key int

// theService is the key of a script's *service.
const theService key = 0

// service is the service of a script.
type service struct {
	folder string
	cmd    *exec.Cmd // nil where it does not run
	ended  chan error
}

// end sends it a signal and gives the error that it ended with.
func (s *service) end(signal os.Signal) error {
	if s.cmd == nil {
		return errors.New("no service runs")
	}
	cmd := s.cmd
	s.cmd = nil
	if err := cmd.Process.Signal(signal); err != nil {
		return err
	}
	select {
	case err := <-s.ended:
		return err
	case <-time.After(patience):
		return errors.Join(fmt.Errorf("it does not stop within %s", patience), cmd.Process.Kill())
	}
}

func start(ts *testscript.TestScript, neg bool, args []string) {
	s := ts.Value(theService).(*service)
	if neg || s.cmd != nil {
		ts.Fatalf("start: a script has one service, and it must start")
	}
	bin, err := exec.LookPath("biosv")
	ts.Check(err)
	settings := []string{"serve", "--listen", "127.0.0.1:0", "--metrics", "none", "--tpm", "software"} // the last of a flag counts
	cmd := exec.Command(bin, append(settings, args...)...)
	cmd.Dir = s.folder
	cmd.Env = append(os.Environ(), "BIOSV_DATA="+ts.Getenv("BIOSV_DATA"))
	log, err := os.OpenFile(filepath.Join(s.folder, "service.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	ts.Check(err)
	defer log.Close()
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	s.cmd, s.ended = cmd, make(chan error, 1)
	ready := make(chan bool, 1)
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if strings.HasPrefix(lines.Text(), "biosv: ready on https://") {
				ready <- true
			}
		}
		s.ended <- cmd.Wait()
		close(ready)
	}()
	select {
	case ok := <-ready:
		if !ok {
			ts.Fatalf("biosv serve ended before it was ready:\n%s", ts.ReadFile(log.Name()))
		}
	case <-time.After(patience):
		ts.Fatalf("biosv serve is not ready after %s:\n%s", patience, ts.ReadFile(log.Name()))
	}
}

func terminate(ts *testscript.TestScript, neg bool, _ []string) {
	if err := ts.Value(theService).(*service).end(syscall.SIGTERM); neg || err != nil {
		ts.Fatalf("terminate: %v", err)
	}
}

func crash(ts *testscript.TestScript, neg bool, _ []string) {
	var exit *exec.ExitError
	if err := ts.Value(theService).(*service).end(syscall.SIGKILL); neg || !errors.As(err, &exit) {
		ts.Fatalf("crash: %v", err)
	}
}

func fails(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: fails CODE ARG...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	var exit *exec.ExitError
	switch err := ts.Exec("biosv", args[1:]...); {
	case err == nil:
		ts.Fatalf("it does not fail")
	case !errors.As(err, &exit):
		ts.Check(err)
	case exit.ExitCode() != want:
		ts.Fatalf("the exit code is %d, want %d", exit.ExitCode(), want)
	}
	if out := ts.ReadFile("stdout"); out != "" {
		ts.Fatalf("standard output is %q, and it failed", out)
	}
}

func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until PATTERN ARG...")
	}
	pattern, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		ts.Check(ts.Exec("biosv", args[1:]...))
		if pattern.MatchString(ts.ReadFile("stdout")) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("it does not come within %s", patience)
		}
	}
}

func csr(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: csr NAME")
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	ts.Check(err)
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "whoever"}}, private)
	ts.Check(err)
	writePEM(ts, args[0]+".key", "PRIVATE KEY", secret)
	writePEM(ts, args[0]+".csr", "CERTIFICATE REQUEST", request)
}

func company(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: company CSR CHAIN")
	}
	block, _ := pem.Decode([]byte(ts.ReadFile(args[0])))
	if block == nil {
		ts.Fatalf("%s holds no PEM", args[0])
	}
	request, err := x509.ParseCertificateRequest(block.Bytes)
	ts.Check(err)
	ts.Check(request.CheckSignature())
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	root := issuerOf(1, "Company Root")
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, private.Public(), private)
	ts.Check(err)
	issuer := issuerOf(2, "Company BIOS.v Issuing")
	issuerDER, err := x509.CreateCertificate(rand.Reader, issuer, root, request.PublicKey, private)
	ts.Check(err)
	writePEM(ts, args[1], "CERTIFICATE", issuerDER, rootDER)
}

func issuerOf(serial int64, name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
}

func writePEM(ts *testscript.TestScript, name, kind string, blocks ...[]byte) {
	var text []byte
	for _, b := range blocks {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b})...)
	}
	ts.Check(os.WriteFile(ts.MkAbs(name), text, 0o600))
}

// Every script says by its name whether it tells of what succeeds or of what is refused, and begins by saying what.
func TestScriptsSayWhatTheyTell(t *testing.T) {
	t.Parallel()
	scripts, err := filepath.Glob("testdata/script/*")
	if err != nil || len(scripts) == 0 {
		t.Fatal(err)
	}
	for _, path := range scripts {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(path)
		if !regexp.MustCompile(`^(good|fail)_[a-z0-9_]+\.txt$`).MatchString(name) || !strings.HasPrefix(string(text), "# ") {
			t.Errorf("%s: good_….txt or fail_….txt is expected, and a first line that says what it tells", name)
		}
		if fmt.Sprint(strings.Contains(string(text), "\nfails ")) != fmt.Sprint(strings.HasPrefix(name, "fail_")) {
			t.Errorf("%s: a script whose name begins with fail has something that fails, and only that", name)
		}
	}
}
