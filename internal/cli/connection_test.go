package cli

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"biosv/envelope"
	"biosv/generated"
)

// folder makes a data folder as the service leaves it.
func folder(t *testing.T, address string) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"trust", "clients"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(dir, addressFile), address+"\n")
	for _, name := range []string{rootFile, certificateFile, keyFile} {
		write(t, filepath.Join(dir, name), "")
	}
	return dir
}

func TestAConnectionIsSettledFromFlagsAndTheDataFolder(t *testing.T) {
	dir := folder(t, "https://[::]:7443/bios")
	in := func(name string) string { return filepath.Join(dir, name) }
	for _, test := range []struct {
		name string
		args []string
		env  string
		want Connection
	}{
		{"--data", []string{"--data", dir}, "/nowhere", Connection{"https://localhost:7443/bios", in(rootFile), in(certificateFile), in(keyFile), envelope.SOAP12}},
		{"BIOSV_DATA", nil, dir, Connection{"https://localhost:7443/bios", in(rootFile), in(certificateFile), in(keyFile), envelope.SOAP12}},
		{"flags before the folder", []string{"--data", dir, "--url", "https://h/bios", "--ca", "r", "--cert", "c", "--key", "k", "--soap", "1.1"}, "",
			Connection{"https://h/bios", "r", "c", "k", envelope.SOAP11}},
		{"another address", []string{"--url", "https://h:1"}, dir, Connection{"https://h:1/bios", in(rootFile), in(certificateFile), in(keyFile), envelope.SOAP12}},
		{"no folder at all", []string{"--url", "https://h:1/bios/", "--ca", "r"}, "/nowhere", Connection{"https://h:1/bios", "r", "", "", envelope.SOAP12}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("BIOSV_DATA", test.env)
			s := &service{}
			if o := s.run(t, "", append([]string{"power", "status"}, test.args...)...); o.code != 0 {
				t.Fatalf("exit code %d: %s", o.code, o.err)
			}
			if s.connection != test.want {
				t.Errorf("the connection is %+v, want %+v", s.connection, test.want)
			}
		})
	}
}

func TestTheDefaultDataFolderIsInTheCurrentOne(t *testing.T) {
	t.Setenv("BIOSV_DATA", "")
	t.Chdir(filepath.Dir(folder(t, "https://h/bios")))
	o := (&service{}).run(t, "", "power", "status")
	if o.code != exitUsage || !strings.Contains(o.err, "there is no .biosv/address (the default data folder); start it with biosv serve --data .biosv") {
		t.Errorf("exit code %d, %q", o.code, o.err)
	}
}

func TestAConnectionThatCannotBeSettledIsRefused(t *testing.T) {
	t.Setenv("BIOSV_DATA", "/nowhere")
	for _, test := range []struct{ args, want string }{
		{"", "where the service is, is not known: there is no /nowhere/address (BIOSV_DATA)"},
		{"--data none", "there is no none/address (--data); start it with biosv serve --data none"},
		{"--url https://h", "the service's root certificate is not known: there is no /nowhere/trust/root.pem (BIOSV_DATA)"},
		{"--url http://h --ca r", `the address "http://h": the service speaks https only`},
		{"--url h:8443 --ca r", `the address "h:8443": one such as https://HOST:8443/bios is expected`},
		{"--url https:// --ca r", "one such as https://HOST:8443/bios is expected"},
		{"--url https://[ --ca r", "one such as https://HOST:8443/bios is expected"},
		{"--url https://h --ca r --cert c", "--cert and --key belong together: give both, or none"},
		{"--url https://h --ca r --key k", "--cert and --key belong together: give both, or none"},
		{"--url https://h --ca r --soap 1.3", `--soap "1.3": 1.1 or 1.2 is expected`},
		{"--timeout soon", "invalid argument \"soon\" for \"--timeout\""},
	} {
		s := &service{}
		o := s.run(t, "", append([]string{"power", "status"}, strings.Fields(test.args)...)...)
		if o.code != exitUsage || s.request != nil || !strings.Contains(o.err, test.want) {
			t.Errorf("%s: exit code %d, %q, want %q", test.args, o.code, o.err, test.want)
		}
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"https://h:8443/bios":    "https://h:8443/bios",
		"https://h":              "https://h/bios",
		"https://h/":             "https://h/bios",
		"https://h/behind/proxy": "https://h/behind/proxy",
		"https://0.0.0.0:1/bios": "https://localhost:1/bios",
		"https://[::]/bios":      "https://localhost/bios",
		"https://[::1]:5":        "https://[::1]:5/bios",
	} {
		if got, err := serviceURL(text); err != nil || got != want {
			t.Errorf("%s is %s, %v, want %s", text, got, err, want)
		}
	}
}

// tlsService is a TLS server with the PEM file of its root.
func tlsService(t *testing.T, h http.HandlerFunc, settle func(*tls.Config)) (address, root string) {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.TLS = &tls.Config{}
	if settle != nil {
		settle(s.TLS)
	}
	s.StartTLS()
	t.Cleanup(s.Close)
	root = filepath.Join(t.TempDir(), "root.pem")
	write(t, root, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
	return s.URL + "/bios", root
}

func TestNoAnswerSaysWhatWouldHelp(t *testing.T) {
	t.Parallel()
	nothing := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }
	good, root := tlsService(t, nothing, nil)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	plainHTTP := httptest.NewServer(http.HandlerFunc(nothing))
	t.Cleanup(plainHTTP.Close)
	page, pageRoot := tlsService(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>\x1b[2J</html>") }, nil)
	moved, movedRoot := tlsService(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://elsewhere.example/", http.StatusFound)
	}, nil)
	demanding, demandingRoot := tlsService(t, nothing, func(c *tls.Config) { c.ClientAuth = tls.RequireAnyClientCert })
	soapFault, soapFaultRoot := tlsService(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/soap+xml; charset=utf-8")
		w.WriteHeader(http.StatusInternalServerError)
		io.WriteString(w, `<e:Envelope xmlns:e="http://www.w3.org/2003/05/soap-envelope"><e:Body><e:Fault><e:Code><e:Value>e:Receiver</e:Value></e:Code>`+
			`<e:Reason><e:Text xml:lang="en">out of order</e:Text></e:Reason></e:Fault></e:Body></e:Envelope>`)
	}, nil)
	other := filepath.Join(t.TempDir(), "other.pem")
	write(t, other, stranger(t))
	for _, test := range []struct{ name, address, root, want string }{
		{"no content", good, root, "Is the address that of a BIOS.v service? It ends in /bios."},
		{"a page", page, pageRoot, "Is the address that of a BIOS.v service? It ends in /bios."},
		{"a redirection", moved, movedRoot, "status 302 Found"},
		{"a foreign fault", soapFault, soapFaultRoot, "out of order"},
		{"another root", good, other, "The certificate shown does not end in a root of " + other + ": name the right one with --ca"},
		{"another name", strings.Replace(good, "127.0.0.1", "localhost", 1), root, "The certificate shown does not bear the host name of the address"},
		{"nobody", "https://" + closed.Addr().String() + "/bios", root, "Nothing listens there: is the service running (biosv serve)?"},
		{"no TLS", "https" + strings.TrimPrefix(plainHTTP.URL, "http") + "/bios", root, "does not speak TLS"},
		{"a certificate wanted", demanding, demandingRoot, "certificate required"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			o := runWith(t.Context(), SOAP, strings.NewReader(""), []string{"power", "status", "--url", test.address, "--ca", test.root})
			if o.code != exitConnection || !strings.Contains(o.err, "biosv: no answer from "+test.address+": ") || !strings.Contains(o.err, test.want) || strings.Contains(o.err, "Post ") || strings.Contains(o.err, "\x1b") {
				t.Errorf("exit code %d, %q, want %q", o.code, o.err, test.want)
			}
		})
	}
}

// stranger is a certificate that nothing was signed with, in PEM.
func stranger(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func TestFilesOfAConnectionThatAreWrongAreNamed(t *testing.T) {
	t.Parallel()
	empty := filepath.Join(t.TempDir(), "empty.pem")
	write(t, empty, "nothing")
	_, root := tlsService(t, nil, nil)
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"--ca", "/none.pem"}, "read the service's root certificate: open /none.pem"},
		{[]string{"--ca", empty}, empty + " holds no certificate in PEM"},
		{[]string{"--ca", root, "--cert", empty, "--key", empty}, "load the client certificate " + empty},
	} {
		o := runWith(t.Context(), SOAP, strings.NewReader(""), append([]string{"power", "status", "--url", "https://127.0.0.1:1/bios"}, test.args...))
		if o.code != exitFailed || !strings.Contains(o.err, test.want) {
			t.Errorf("%q: exit code %d, %q, want %q", test.args, o.code, o.err, test.want)
		}
	}
}

// The whole way of a request, but for the service: over TLS to an endpoint that reads it and answers.
func TestARequestGoesOverTLSAndItsAnswerComesBack(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"1.1", "1.2"} {
		var asked bytes.Buffer
		var path string
		address, root := tlsService(t, func(w http.ResponseWriter, r *http.Request) {
			path = r.URL.Path
			io.Copy(&asked, r.Body)
			namespace, media := "http://www.w3.org/2003/05/soap-envelope", "application/soap+xml"
			if version == "1.1" {
				namespace, media = "http://schemas.xmlsoap.org/soap/envelope/", "text/xml"
			}
			w.Header().Set("Content-Type", media+"; charset=utf-8")
			io.WriteString(w, `<e:Envelope xmlns:e="`+namespace+`"><e:Body><GetPowerStateResponse xmlns="`+generated.Namespace+`"><PowerState>Paused</PowerState></GetPowerStateResponse></e:Body></e:Envelope>`)
		}, nil)
		o := runWith(t.Context(), SOAP, strings.NewReader(""), []string{"power", "status", "--url", address, "--ca", root, "--soap", version, "--domain", "demo"})
		if o.code != 0 || o.out != "Power state         Paused\nGuest phase         none\nAllowed reset type  none\n" {
			t.Errorf("SOAP %s: exit code %d, %q, %q", version, o.code, o.out, o.err)
		}
		if path != "/bios/demo" || !strings.Contains(asked.String(), "GetPowerState") {
			t.Errorf("SOAP %s: %s was asked %s", version, path, &asked)
		}
	}
}

func TestConnectingThatFailsIsToldAsItIs(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	o := runWith(t.Context(), func(context.Context, Connection) (generated.Handler, error) { return nil, broken }, strings.NewReader(""), append([]string{"power", "status"}, asked...))
	if o.code != exitFailed || o.err != "biosv: broken\n" {
		t.Errorf("exit code %d, %q", o.code, o.err)
	}
}
