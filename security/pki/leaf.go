package pki

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"sync"
	"time"
)

// MostLeafLife bounds the life of TLS certificates: their keys are in memory, and what is stolen there is good
// for no longer.
const MostLeafLife = 12 * time.Hour

// Leaf is the service's TLS certificate: its key is in memory only, and it is made anew at half of its life.
// Connections that are open keep the one that they were shown. It is safe for concurrent use.
type Leaf struct {
	issuer *Issuer
	names  []string
	life   time.Duration
	log    *slog.Logger
	stop   context.CancelFunc
	worker sync.WaitGroup
	fresh  chan struct{} // there is another certificate

	mu      sync.RWMutex
	current *tls.Certificate
	shown   map[string][]*x509.Certificate // chains by the leaf's SHA-256, as long as they are valid
}

// NewLeaf makes a TLS certificate for host names and addresses, and keeps it fresh until [Leaf.Close].
func NewLeaf(ctx context.Context, i *Issuer, names []string, life time.Duration, log *slog.Logger) (*Leaf, error) {
	l := &Leaf{issuer: i, names: names, life: min(life, MostLeafLife), log: log, fresh: make(chan struct{}, 1), shown: map[string][]*x509.Certificate{}}
	if err := l.Renew(); err != nil {
		return nil, err
	}
	ctx, l.stop = context.WithCancel(context.WithoutCancel(ctx))
	l.worker.Go(func() { l.keepFresh(ctx) })
	return l, nil
}

// Certificate is for tls.Config.GetCertificate.
func (l *Leaf) Certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.current, nil
}

// NotAfter is until when the certificate in use is valid.
func (l *Leaf) NotAfter() time.Time {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.current.Leaf.NotAfter
}

// Chain gives the certificates that a connection was shown, root included, by the SHA-256 of the first in
// hexadecimal; an empty one means those in use.
func (l *Leaf) Chain(sha string) ([]*x509.Certificate, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if sha == "" {
		sha = fingerprint(l.current.Leaf)
	}
	chain, ok := l.shown[sha]
	return chain, ok
}

func fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

// Renew makes a new key and certificate, which connections get from now on.
func (l *Leaf) Renew() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		Subject: pkix.Name{Organization: []string{"BIOS.v"}, CommonName: l.names[0]}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		URIs: []*url.URL{{Scheme: "spiffe", Host: l.issuer.trustDomain, Path: "/service/biosv"}},
	}
	for _, n := range l.names {
		if ip := net.ParseIP(n); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, n)
		}
	}
	leaf, err := l.issuer.issue(&key.PublicKey, template, l.life)
	if err != nil {
		return fmt.Errorf("the TLS certificate: %w", err)
	}
	above := l.issuer.Chain()
	fresh := &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
	// A root is what the other side has already; one that it does not have would not help it. A company's chain is
	// sent up to below its root.
	for _, c := range above[:max(1, len(above)-1)] {
		fresh.Certificate = append(fresh.Certificate, c.Raw)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for sha, chain := range l.shown {
		if l.issuer.clock().After(chain[0].NotAfter) {
			delete(l.shown, sha)
		}
	}
	l.shown[fingerprint(leaf)] = append([]*x509.Certificate{leaf}, above...)
	l.current = fresh
	select {
	case l.fresh <- struct{}{}:
	default:
	}
	return nil
}

const (
	firstRetry = time.Second
	lastRetry  = 5 * time.Minute
)

// keepFresh renews at half of the certificate's life, which is before two thirds of it; what fails is tried again,
// less and less often.
func (l *Leaf) keepFresh(ctx context.Context) {
	retry := firstRetry
	wait := l.half()
	for {
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-l.fresh:
			timer.Stop()
			wait, retry = l.half(), firstRetry
			continue
		case <-ctx.Done():
			timer.Stop()
			return
		}
		if err := l.Renew(); err != nil {
			l.log.Error("the TLS certificate could not be renewed", "valid until", l.NotAfter(), "error", err)
			wait, retry = retry, min(2*retry, lastRetry)
			continue
		}
		l.log.Info("the TLS certificate was renewed", "valid until", l.NotAfter())
	}
}

// half is half of what the certificate has left: it may end with its issuer's, before its own life does.
func (l *Leaf) half() time.Duration {
	return max(l.NotAfter().Sub(l.issuer.clock())/2, firstRetry)
}

// Close ends the renewal.
func (l *Leaf) Close() {
	l.stop()
	l.worker.Wait()
}
