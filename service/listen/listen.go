// Package listen is the TLS listener that every door for tools stands behind. It bounds connections and
// handshakes, knows which certificate each connection was shown, and reports handshakes that failed, so that
// what crypto/tls refuses (a client certificate that it cannot parse, a protocol too old) is audited too.
//
// TLS 1.2 (RFC 5246, with the suites that RFC 9325 recommends) and 1.3 (RFC 8446). A client certificate is
// requested and its possession proved; whether it is believed is decided at every request, by
// security.Authenticator.
package listen

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

// limits bound what peers can take.
type limits struct {
	conns, handshakes int
	handshakeTime     time.Duration // from when a connection is accepted
}

var usual = limits{conns: 4096, handshakes: 256, handshakeTime: 10 * time.Second}

// Config is what a [Listener] is made of.
type Config struct {
	// Certificate gives the certificate for a new connection.
	Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// Failed is told of each handshake that failed for another reason than that the peer went away; and, without a
	// peer, of connections that cannot be accepted because the process or the host has too much open.
	Failed func(peer string, err error)
}

// Listener accepts TLS connections whose handshake is complete.
type Listener struct {
	net.Listener
	config  *tls.Config
	limits  limits
	failed  func(string, error)
	ready   chan net.Conn
	done    chan struct{}
	err     error // why accepting ended; read after done is closed
	ctx     context.Context
	cancel  context.CancelFunc
	workers sync.WaitGroup
	shaking chan struct{}
	open    chan struct{}
}

// New makes a Listener over a TCP listener, which it owns from then on.
func New(inner net.Listener, c Config) *Listener { return newListener(inner, c, usual) }

func newListener(inner net.Listener, c Config, most limits) *Listener {
	l := &Listener{
		Listener: inner, limits: most, failed: c.Failed, ready: make(chan net.Conn), done: make(chan struct{}),
		shaking: make(chan struct{}, most.handshakes), open: make(chan struct{}, most.conns),
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.config = &tls.Config{
		MinVersion: tls.VersionTLS12,
		CipherSuites: []uint16{ // of TLS 1.2; those of 1.3 are all good
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
		},
		ClientAuth: tls.RequestClientCert,
		NextProtos: []string{"http/1.1"},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			cert, err := c.Certificate(hello)
			if conn, ok := hello.Conn.(*Conn); ok && err == nil {
				sum := sha256.Sum256(cert.Certificate[0])
				conn.leaf = hex.EncodeToString(sum[:])
			}
			return cert, err
		},
		// A resumed session would show the certificate of an older connection, and skip the judgement of ours.
		SessionTicketsDisabled: true,
	}
	l.workers.Go(l.run)
	return l
}

// Conn is a connection below TLS. It knows the certificate that it was shown.
type Conn struct {
	net.Conn
	leaf    string
	release func()
}

// LeafSHA256 is the SHA-256, in hexadecimal, of the certificate that the peer was shown. It is set once the
// handshake is complete.
func (c *Conn) LeafSHA256() string { return c.leaf }

// Close closes the connection and makes room for another.
func (c *Conn) Close() error {
	c.release()
	return c.Conn.Close()
}

func (l *Listener) run() {
	defer close(l.done)
	wait := firstWait
	for {
		select {
		case l.open <- struct{}{}:
		case <-l.ctx.Done():
			l.err = net.ErrClosed
			return
		}
		inner, err := l.Listener.Accept()
		switch {
		case err == nil:
			wait = firstWait
			conn := &Conn{Conn: inner, release: sync.OnceFunc(func() { <-l.open })}
			l.workers.Go(func() { l.handshake(conn) })
		case passes(err) && l.ctx.Err() == nil:
			<-l.open
			l.failed("", err)
			select {
			case <-time.After(wait):
			case <-l.ctx.Done():
			}
			wait = min(2*wait, lastWait)
		default:
			l.err = err
			return
		}
	}
}

const (
	firstWait = 5 * time.Millisecond
	lastWait  = time.Second
)

// passes tells what keeps a connection from being accepted now and will not for ever.
func passes(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func (l *Listener) handshake(conn *Conn) {
	ctx, cancel := context.WithTimeout(l.ctx, l.limits.handshakeTime)
	defer cancel()
	t := tls.Server(conn, l.config)
	if err := l.shake(ctx, t); err != nil {
		conn.Close()
		if !went(err) && l.ctx.Err() == nil {
			l.failed(conn.RemoteAddr().String(), err)
		}
		return
	}
	select {
	case l.ready <- t:
	case <-l.ctx.Done():
		conn.Close()
	}
}

func (l *Listener) shake(ctx context.Context, t *tls.Conn) error {
	select {
	case l.shaking <- struct{}{}:
		defer func() { <-l.shaking }()
	case <-ctx.Done():
		return fmt.Errorf("too many handshakes are under way: %w", ctx.Err())
	}
	if err := t.HandshakeContext(ctx); ctx.Err() == nil {
		return err
	}
	return fmt.Errorf("the handshake takes too long: %w", ctx.Err())
}

// went tells that the peer went away.
func went(err error) bool {
	for _, e := range []error{io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// Accept gives the next connection, a *tls.Conn over a [Conn].
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.ready:
		return conn, nil
	case <-l.done:
		return nil, l.err
	}
}

// Close stops accepting and waits for the handshakes under way to end.
func (l *Listener) Close() error {
	l.cancel()
	err := l.Listener.Close()
	l.workers.Wait()
	return err
}
