package soap_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"biosv/fault"
	"biosv/generated"
	"biosv/internal/testca"
	"biosv/security"
	"biosv/service/listen"
	"biosv/service/soap"
)

const (
	trustDomain = "house.test"
	person      = "spiffe://" + trustDomain + "/person/"
	domain      = "spiffe://" + trustDomain + "/domain/"
)

// gate stands where the gate does, and keeps what reaches it.
type gate struct {
	answer func(ctx context.Context, call generated.Call, request generated.Request) (generated.Reply, error)

	mu       sync.Mutex
	calls    []generated.Call
	requests []generated.Request
}

func (g *gate) Handle(ctx context.Context, call generated.Call, request generated.Request) (generated.Reply, error) {
	g.mu.Lock()
	g.calls, g.requests = append(g.calls, call), append(g.requests, request)
	g.mu.Unlock()
	if g.answer == nil {
		return nil, fault.AccessDenied(fault.RoleTooSmall, call.Principal.String(), request.Operation().Name, "", "This gate lets nothing pass.")
	}
	return g.answer(ctx, call, request)
}

func (g *gate) reached() ([]generated.Call, []generated.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.calls, g.requests
}

// settings are of a door behind the program's own listener.
func settings(next generated.Handler, root *x509.Certificate) soap.Config {
	a := security.NewAuthenticator(trustDomain, time.Now)
	a.Trust([]*x509.Certificate{root}, nil)
	return soap.Config{
		Next: next, Authenticator: a, Privileged: "dom0", Log: slog.New(slog.DiscardHandler),
		Role: func(_ context.Context, operator string) (security.Role, error) {
			if operator == "admin" {
				return security.Admin, nil
			}
			return security.Operator, nil
		},
	}
}

// serve serves a door as the program does, until the server is closed.
func serve(l net.Listener, own tls.Certificate, c soap.Config) *http.Server {
	server := &http.Server{Handler: soap.New(c), ConnContext: soap.ConnContext, MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	go server.Serve(listen.New(l, listen.Config{
		Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &own, nil },
		Failed:      func(string, error) {},
	}))
	return server
}

// house is a door that is served for a test.
type house struct {
	*gate
	url  string // https://ADDRESS/bios
	root *testca.Authority
}

func open(t *testing.T, next *gate, edits ...func(*soap.Config)) *house {
	t.Helper()
	root := testca.NewRoot(t, "root")
	c := settings(next, root.Certificate)
	for _, edit := range edits {
		edit(&c)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := serve(l, ownPair(t, root), c)
	t.Cleanup(func() { server.Close() })
	return &house{gate: next, url: "https://" + l.Addr().String() + "/bios", root: root}
}

// ownPair is a certificate for the loopback interface.
func ownPair(t *testing.T, root *testca.Authority) tls.Certificate {
	return root.Pair(t, testca.Usage(x509.ExtKeyUsageServerAuth), func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)} })
}

// config is of a TLS client that shows the certificate of an identity; of none where that is empty.
func (h *house) config(t *testing.T, id string) *tls.Config {
	t.Helper()
	c := &tls.Config{RootCAs: x509.NewCertPool()}
	c.RootCAs.AddCert(h.root.Certificate)
	if id != "" {
		c.Certificates = []tls.Certificate{h.root.Pair(t, testca.Named(id))}
	}
	return c
}

func (h *house) client(t *testing.T, id string) *http.Client {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: h.config(t, id), MaxIdleConnsPerHost: 8}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: time.Minute}
}
