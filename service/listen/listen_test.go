package listen

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"biosv/internal/testca"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must come.
const patience = 10 * time.Second

// bench is a listener whose connections are served by an echo.
type bench struct {
	*Listener
	root *testca.Authority

	mu       sync.Mutex
	pair     tls.Certificate
	failures []string // as Failed was told of them: peer, then why
	told     chan struct{}
}

func newBench(t *testing.T, most limits, wrap func(net.Listener) net.Listener) *bench {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if wrap != nil {
		inner = wrap(inner)
	}
	b := &bench{root: testca.NewRoot(t, "root"), told: make(chan struct{}, 1000)}
	b.renew(t)
	b.Listener = newListener(inner, Config{
		Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			return new(b.pair), nil
		},
		Failed: func(peer string, err error) {
			b.mu.Lock()
			b.failures = append(b.failures, peer+" "+err.Error())
			b.mu.Unlock()
			b.told <- struct{}{}
		},
	}, most)
	var served sync.WaitGroup
	served.Go(func() {
		for {
			conn, err := b.Accept()
			if err != nil {
				return
			}
			served.Go(func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn) // until the client closes
			})
		}
	})
	t.Cleanup(func() {
		if err := b.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		served.Wait()
	})
	return b
}

// renew makes a certificate that connections get from now on.
func (b *bench) renew(t *testing.T) {
	t.Helper()
	pair := b.root.Pair(t, testca.Usage(x509.ExtKeyUsageServerAuth), func(c *x509.Certificate) { c.DNSNames = []string{"localhost"} })
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pair = pair
}

func (b *bench) client() *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(b.root.Certificate)
	return &tls.Config{RootCAs: roots, ServerName: "localhost"}
}

// echo connects, and sees whether the other end answers.
func (b *bench) echo(t *testing.T, c *tls.Config) error {
	t.Helper()
	conn, err := b.dial(t, c)
	if err != nil {
		return err
	}
	defer conn.Close()
	return answers(conn)
}

func (b *bench) dial(t *testing.T, c *tls.Config) (*tls.Conn, error) {
	t.Helper()
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", b.Addr().String(), c)
	if err != nil {
		return nil, err
	}
	return conn, conn.SetDeadline(time.Now().Add(patience))
}

func answers(conn io.ReadWriter) error {
	if _, err := conn.Write([]byte("x")); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, make([]byte, 1))
	return err
}

// connect opens a connection without TLS.
func (b *bench) connect(t *testing.T) *net.TCPConn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", b.Addr().String(), patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn.(*net.TCPConn)
}

// failure waits until Failed was told, and gives what it was told since the last time.
func (b *bench) failure(t *testing.T) string {
	t.Helper()
	select {
	case <-b.told:
	case <-time.After(patience):
		t.Fatal("nobody was told of the failure")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	text := b.failures[0]
	b.failures = b.failures[1:]
	return text
}

func (b *bench) noFailure(t *testing.T) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.failures) > 0 {
		t.Errorf("failures were told of: %q", b.failures)
	}
}

func TestProtocolsAndSuites(t *testing.T) {
	t.Parallel()
	b := newBench(t, usual, nil)
	for _, row := range []struct {
		version uint16
		fine    bool
	}{{tls.VersionTLS10, false}, {tls.VersionTLS11, false}, {tls.VersionTLS12, true}, {tls.VersionTLS13, true}} {
		c := b.client()
		c.MinVersion, c.MaxVersion = row.version, row.version
		err := b.echo(t, c)
		if (err == nil) != row.fine {
			t.Errorf("%s: %v", tls.VersionName(row.version), err)
		}
		if !row.fine {
			if err == nil || !strings.Contains(err.Error(), "protocol version") {
				t.Errorf("%s: the client is told %v", tls.VersionName(row.version), err)
			}
			if told := b.failure(t); !strings.Contains(told, "127.0.0.1:") || !strings.Contains(told, "version") {
				t.Errorf("%s: the failure is told as %q", tls.VersionName(row.version), told)
			}
		}
	}
	accepted := []uint16{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
	}
	for _, suite := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
		if !slices.Contains(suite.SupportedVersions, tls.VersionTLS12) {
			continue
		}
		c := b.client()
		c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{suite.ID}
		want := slices.Contains(accepted, suite.ID)
		if err := b.echo(t, c); (err == nil) != want {
			t.Errorf("%s: %v", suite.Name, err)
		}
		if !want {
			b.failure(t)
		}
	}
	b.noFailure(t)
}

func TestAClientCertificateIsRequestedAndItsKeyProved(t *testing.T) {
	t.Parallel()
	b := newBench(t, usual, nil)
	mine := testca.NewRoot(t, "of the client").Pair(t, testca.Named("spiffe://biosv.test/person/alice"))
	damaged := mine
	damaged.Certificate = [][]byte{append(slices.Clone(mine.Certificate[0]), 0)}
	garbage := mine
	garbage.Certificate = [][]byte{[]byte("no certificate")}
	stolen := mine
	stolen.PrivateKey = testca.Key(t)
	for _, row := range []struct {
		name string
		pair *tls.Certificate
		says string // of the failure; empty for none
	}{
		{"none", nil, ""},
		{"one of an unknown root: that is judged at each request", &mine, ""},
		{"one with a byte too many", &damaged, "failed to parse client certificate"},
		{"one that is none", &garbage, "failed to parse client certificate"},
		{"one without its key", &stolen, "invalid signature by the client certificate"},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(row.name+", "+tls.VersionName(version), func(t *testing.T) {
				c := b.client()
				c.MaxVersion = version
				asked := false
				c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
					asked = true
					if row.pair == nil {
						return new(tls.Certificate), nil
					}
					return row.pair, nil
				}
				err := b.echo(t, c)
				if !asked {
					t.Error("no certificate was asked for")
				}
				if row.says == "" {
					if err != nil {
						t.Error(err)
					}
					return
				}
				var alert tls.AlertError
				if err == nil || !errors.As(err, &alert) && !strings.Contains(err.Error(), "remote error: tls: ") {
					t.Errorf("the client gets no alert: %v", err)
				}
				if told := b.failure(t); !strings.HasPrefix(told, "127.0.0.1:") || !strings.Contains(told, row.says) {
					t.Errorf("the failure is told as %q", told)
				}
			})
		}
	}
	b.noFailure(t)
}

func TestWhoSpeaksNoTLSIsToldOf(t *testing.T) {
	t.Parallel()
	b := newBench(t, usual, nil)
	conn := b.connect(t)
	if _, err := conn.Write([]byte("GET /bios?wsdl HTTP/1.1\r\nHost: localhost\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	if told := b.failure(t); !strings.Contains(told, "TLS handshake") {
		t.Errorf("the failure is told as %q", told)
	}
}

func TestWhoGoesAwayIsNotToldOf(t *testing.T) {
	t.Parallel()
	b := newBench(t, usual, nil)
	for name, end := range map[string]func(*net.TCPConn) error{
		"closed at once": func(*net.TCPConn) error { return nil },
		"reset at once":  func(c *net.TCPConn) error { return c.SetLinger(0) },
		"closed in the middle of a record": func(c *net.TCPConn) error {
			_, err := c.Write([]byte{22, 3, 1, 2, 0, 1})
			return err
		},
		"reset in the middle of a record": func(c *net.TCPConn) error {
			_, err := c.Write([]byte{22, 3, 1, 2, 0, 1})
			return errors.Join(err, c.SetLinger(0))
		},
	} {
		conn := b.connect(t)
		if err := errors.Join(end(conn), conn.Close()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	// They are accepted in their order: once the listener has no connection left, it has dealt with them.
	if err := b.echo(t, b.client()); err != nil {
		t.Error(err)
	}
	for deadline := time.Now().Add(patience); len(b.open) > 1; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d connections are still open", len(b.open)-1)
		}
	}
	b.noFailure(t)
}

func TestASlowHandshakeIsEndedAndHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	most := usual
	most.handshakeTime = 100 * time.Millisecond
	b := newBench(t, most, nil)
	slow := b.connect(t)
	if _, err := slow.Write([]byte{22, 3, 1, 2, 0, 1}); err != nil { // the beginning of a record
		t.Fatal(err)
	}
	if err := b.echo(t, b.client()); err != nil {
		t.Errorf("another connection meanwhile: %v", err)
	}
	if told := b.failure(t); !strings.Contains(told, "takes too long") {
		t.Errorf("the failure is told as %q", told)
	}
	if _, err := io.Copy(io.Discard, slow); err != nil {
		t.Errorf("the slow connection is not closed: %v", err)
	}
}

func TestHandshakesBeyondTheLimitWaitForNoLongerThanOneMayTake(t *testing.T) {
	t.Parallel()
	b := newBench(t, limits{conns: 10, handshakes: 1, handshakeTime: 100 * time.Millisecond}, nil)
	const n = 5
	for range n {
		b.connect(t) // and says nothing
	}
	long, turn := 0, 0
	for range n {
		switch told := b.failure(t); {
		case strings.Contains(told, "takes too long"):
			long++
		case strings.Contains(told, "too many handshakes"):
			turn++
		default:
			t.Errorf("the failure is told as %q", told)
		}
	}
	if long == 0 || long+turn != n {
		t.Errorf("%d handshakes took too long and %d did not get their turn", long, turn)
	}
	if err := b.echo(t, b.client()); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestConnectionsBeyondTheLimitWaitUntilOneCloses(t *testing.T) {
	t.Parallel()
	most := usual
	most.conns = 2
	b := newBench(t, most, nil)
	var open []*tls.Conn
	for range most.conns {
		conn, err := b.dial(t, b.client())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := answers(conn); err != nil {
			t.Fatal(err)
		}
		open = append(open, conn)
	}
	third := b.connect(t) // the kernel takes it; nobody answers
	tlsThird := tls.Client(third, b.client())
	early, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- tlsThird.HandshakeContext(t.Context()) }()
	select {
	case err := <-done:
		t.Fatalf("a connection beyond the limit was answered: %v", err)
	case <-early.Done():
	}
	open[0].Close()
	if err := <-done; err != nil {
		t.Fatalf("after another one closed: %v", err)
	}
	if err := answers(tlsThird); err != nil {
		t.Error(err)
	}
	b.noFailure(t)
}

func TestAConnectionKnowsTheCertificateThatItWasShown(t *testing.T) {
	t.Parallel()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	root := testca.NewRoot(t, "root")
	server := root.Pair(t, testca.Usage(x509.ExtKeyUsageServerAuth), func(c *x509.Certificate) { c.DNSNames = []string{"localhost"} })
	l := New(inner, Config{
		Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &server, nil },
		Failed:      func(peer string, err error) { t.Error(peer, err) },
	})
	defer l.Close()
	roots := x509.NewCertPool()
	roots.AddCert(root.Certificate)
	client, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{RootCAs: roots, ServerName: "localhost"})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	sum := sha256.Sum256(client.ConnectionState().PeerCertificates[0].Raw)
	if got := conn.(*tls.Conn).NetConn().(*Conn).LeafSHA256(); got != hex.EncodeToString(sum[:]) {
		t.Errorf("it is %q; the client was shown %x", got, sum)
	}
}

// An open connection goes on when the certificate changes, and no later one takes its session up.
func TestANewCertificateCountsForNewConnections(t *testing.T) {
	t.Parallel()
	b := newBench(t, usual, nil)
	c := b.client()
	c.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	before, err := b.dial(t, c)
	if err != nil {
		t.Fatal(err)
	}
	defer before.Close()
	if err := answers(before); err != nil {
		t.Fatal(err)
	}
	b.renew(t)
	if err := answers(before); err != nil {
		t.Errorf("the open connection: %v", err)
	}
	after, err := b.dial(t, c)
	if err != nil {
		t.Fatal(err)
	}
	defer after.Close()
	if err := answers(after); err != nil {
		t.Fatal(err)
	}
	state := after.ConnectionState()
	if state.DidResume || state.PeerCertificates[0].Equal(before.ConnectionState().PeerCertificates[0]) {
		t.Errorf("resumed: %v; the certificate is the old one: %v", state.DidResume, state.PeerCertificates[0].Equal(before.ConnectionState().PeerCertificates[0]))
	}
}

// scarce fails to accept for want of file descriptors, a few times.
type scarce struct {
	net.Listener
	mu   sync.Mutex
	left int
}

func (s *scarce) Accept() (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left > 0 {
		s.left--
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: fmt.Errorf("accept4: %w", syscall.EMFILE)}
	}
	return s.Listener.Accept()
}

func TestTooManyOpenFilesPass(t *testing.T) {
	t.Parallel()
	most := usual
	most.conns = 2
	b := newBench(t, most, func(l net.Listener) net.Listener { return &scarce{Listener: l, left: 4} })
	if err := b.echo(t, b.client()); err != nil {
		t.Error(err)
	}
	for range 4 {
		if told := b.failure(t); !strings.HasPrefix(told, " accept") || !strings.Contains(told, "too many open files") {
			t.Errorf("the failure is told as %q", told)
		}
	}
}

func TestCloseEndsHandshakesUnderWay(t *testing.T) {
	t.Parallel()
	b := newBench(t, usual, nil)
	conn := b.connect(t)
	for deadline := time.Now().Add(patience); len(b.shaking) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no handshake begins")
		}
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if _, err := io.Copy(io.Discard, conn); err != nil {
		t.Errorf("the connection is not closed: %v", err)
	}
	if _, err := b.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept: %v", err)
	}
	b.noFailure(t)
}
