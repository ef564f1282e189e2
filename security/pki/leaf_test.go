package pki_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"biosv/internal/testca"
	"biosv/security/pki"
)

// fallible is a key that signs as long as it may.
type fallible struct {
	crypto.Signer
	broken atomic.Bool
}

func (f *fallible) Sign(random io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	if f.broken.Load() {
		return nil, errors.New("the TPM does not answer")
	}
	return f.Signer.Sign(random, digest, o)
}

// leafBench is a TLS certificate; its time is that of a bubble of synctest.
type leafBench struct {
	*pki.Leaf
	issuer *pki.Issuer
	key    *fallible
	text   bytes.Buffer // what was logged; the bubble's goroutines take turns with synctest.Wait
}

func newLeaf(t *testing.T, life time.Duration, names ...string) *leafBench {
	t.Helper()
	b := &leafBench{key: &fallible{Signer: testca.Key(t)}}
	var err error
	if b.issuer, err = pki.Open(b.key, t.TempDir(), trustDomain, time.Now); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if b.Leaf, err = pki.NewLeaf(ctx, b.issuer, append([]string{"localhost"}, names...), life, slog.New(slog.NewTextHandler(&b.text, nil))); err != nil {
		t.Fatal(err)
	}
	cancel() // it is kept fresh until Close, not until whoever made it is done
	t.Cleanup(b.Close)
	return b
}

func (b *leafBench) shown(t *testing.T) *x509.Certificate {
	t.Helper()
	pair, err := b.Certificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	if !pair.PrivateKey.(*ecdsa.PrivateKey).PublicKey.Equal(pair.Leaf.PublicKey) {
		t.Error("the key is not the certificate's")
	}
	return pair.Leaf
}

func TestATLSCertificateIsWhatItShouldBe(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newLeaf(t, 48*time.Hour, "bios.example.org", "192.0.2.1", "::1")
		c := b.shown(t)
		if fmt.Sprint(c.DNSNames, c.IPAddresses, c.URIs) != "[localhost bios.example.org] [192.0.2.1 ::1] [spiffe://biosv.test/service/biosv]" {
			t.Errorf("it names %v, %v, %v", c.DNSNames, c.IPAddresses, c.URIs)
		}
		if c.IsCA || fmt.Sprint(c.ExtKeyUsage) != fmt.Sprint([]x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}) || c.KeyUsage != x509.KeyUsageDigitalSignature {
			t.Errorf("it is for %v, %v", c.ExtKeyUsage, c.KeyUsage)
		}
		if life := time.Until(c.NotAfter); life > pki.MostLeafLife || life < pki.MostLeafLife-time.Second {
			t.Errorf("asked for 48 hours, it lives %s", life)
		}
		if !b.NotAfter().Equal(c.NotAfter) {
			t.Errorf("it is said to end at %s", b.NotAfter())
		}
	})
}

// It is renewed before two thirds of its life, over and over, and a connection that is open goes on.
func TestARenewalDropsNoConnection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const life = 3 * time.Hour
		b := newLeaf(t, life)
		roots := x509.NewCertPool()
		roots.AddCert(b.issuer.Chain()[0])
		connect := func() *tls.Conn {
			t.Helper()
			here, there := net.Pipe()
			server := tls.Server(there, &tls.Config{GetCertificate: b.Certificate, SessionTicketsDisabled: true})
			client := tls.Client(here, &tls.Config{RootCAs: roots, ServerName: "localhost", Time: time.Now})
			go func() {
				_, _ = io.Copy(server, server) // until the client closes
				server.Close()
			}()
			t.Cleanup(func() { client.NetConn().Close() })
			if err := client.Handshake(); err != nil {
				t.Fatalf("a new connection after %s: %v", life, err)
			}
			return client
		}
		echo := func(c *tls.Conn) error {
			if _, err := c.Write([]byte("x")); err != nil {
				return err
			}
			_, err := io.ReadFull(c, make([]byte, 1))
			return err
		}
		open := connect()
		first := b.shown(t)
		seen := []*x509.Certificate{first}
		time.Sleep(time.Second)
		for range 5 {
			before := seen[len(seen)-1]
			time.Sleep(life/2 - 2*time.Second)
			synctest.Wait()
			if !b.shown(t).Equal(before) {
				t.Error("it was renewed before half of its life")
			}
			time.Sleep(2 * time.Second)
			synctest.Wait()
			now := b.shown(t)
			if now.Equal(before) || now.PublicKey.(*ecdsa.PublicKey).Equal(before.PublicKey) {
				t.Fatal("after half of its life there is no other one, with another key")
			}
			seen = append(seen, now)
			if err := echo(open); err != nil {
				t.Fatalf("the open connection: %v", err)
			}
			fresh := connect()
			if !fresh.ConnectionState().PeerCertificates[0].Equal(now) {
				t.Error("a new connection is shown the old one")
			}
			if err := echo(fresh); err != nil {
				t.Error(err)
			}
		}
		if !open.ConnectionState().PeerCertificates[0].Equal(first) {
			t.Error("the open connection has another certificate")
		}
		for i, c := range seen {
			_, known := b.Chain(fmt.Sprintf("%x", sha256.Sum256(c.Raw)))
			if valid := !time.Now().After(c.NotAfter); valid && !known || i == 0 && known {
				t.Errorf("the certificate that ends in %s is known: %v", time.Until(c.NotAfter), known)
			}
		}
	})
}

func TestARenewalThatFailsIsTriedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const life = 2 * time.Hour
		b := newLeaf(t, life)
		first := b.shown(t)
		b.key.broken.Store(true)
		if err := b.Renew(); err == nil {
			t.Error("a key that does not sign renewed it")
		}
		time.Sleep(life/2 + 40*time.Minute)
		synctest.Wait()
		if !b.shown(t).Equal(first) {
			t.Error("it is another one")
		}
		if n := strings.Count(b.text.String(), "could not be renewed"); n < 5 || n > 30 {
			t.Errorf("in 40 minutes it was tried %d times:\n%s", n, &b.text)
		}
		b.key.broken.Store(false)
		time.Sleep(6 * time.Minute)
		synctest.Wait()
		if b.shown(t).Equal(first) || time.Now().After(first.NotAfter) {
			t.Error("when the key signs again, it is not renewed in time")
		}
	})
}

func TestACertificateThatEndsWithItsIssuersIsRenewedInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newLeaf(t, 8*time.Hour)
		company := testca.NewRoot(t, "a root")
		ends := time.Now().Add(time.Hour)
		install := func(to time.Time) {
			t.Helper()
			issuing := company.Certify(t, "k", b.key.Public(), testca.Valid(time.Now().Add(-time.Hour), to))
			if _, err := b.issuer.InstallChain(testca.PEM(issuing, company.Certificate)); err != nil {
				t.Fatal(err)
			}
		}
		install(ends)
		if err := b.Renew(); err != nil {
			t.Fatal(err)
		}
		if left := time.Until(b.shown(t).NotAfter); left > time.Hour {
			t.Errorf("it outlives its issuer's: by %s", left-time.Hour)
		}
		time.Sleep(31 * time.Minute) // past half of what it had left; its issuer's was renewed meanwhile
		install(time.Now().Add(20 * time.Hour))
		time.Sleep(15 * time.Minute)
		synctest.Wait()
		if left := time.Until(b.shown(t).NotAfter); left < 7*time.Hour {
			t.Errorf("it has %s left", left)
		}
	})
}

func TestAConnectionsChainIsToldByItsCertificate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newLeaf(t, time.Hour)
		own := b.issuer.Chain()[0]
		first := b.shown(t)
		name := func(c *x509.Certificate) string {
			sum := sha256.Sum256(c.Raw)
			return hex.EncodeToString(sum[:])
		}
		sent := func() (list []string) {
			pair, err := b.Certificate(nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, der := range pair.Certificate {
				c, err := x509.ParseCertificate(der)
				if err != nil {
					t.Fatal(err)
				}
				list = append(list, c.Subject.CommonName)
			}
			return list
		}
		if got := sent(); !slices.Equal(got, []string{"localhost", own.Subject.CommonName}) {
			t.Errorf("sent is %v", got)
		}
		company := testca.NewRoot(t, "a root")
		between := company.Sub(t, "between")
		issuing := between.Certify(t, "the issuing key", b.key.Public())
		if _, err := b.issuer.InstallChain(testca.PEM(append([]*x509.Certificate{issuing}, between.Chain()...)...)); err != nil {
			t.Fatal(err)
		}
		if err := b.Renew(); err != nil {
			t.Fatal(err)
		}
		if got := sent(); !slices.Equal(got, []string{"localhost", "the issuing key", "between"}) {
			t.Errorf("under a company's authority, sent is %v", got)
		}
		for what, row := range map[string]struct {
			sha  string
			want []*x509.Certificate
		}{
			"the first one's":  {name(first), []*x509.Certificate{first, own}},
			"the one's in use": {name(b.shown(t)), []*x509.Certificate{b.shown(t), issuing, between.Certificate, company.Certificate}},
			"of none":          {"", []*x509.Certificate{b.shown(t), issuing, between.Certificate, company.Certificate}},
			"another's":        {name(own), nil},
		} {
			chain, known := b.Chain(row.sha)
			if known != (row.want != nil) || !slices.EqualFunc(chain, row.want, (*x509.Certificate).Equal) {
				t.Errorf("the chain %s has %d certificates, known: %v", what, len(chain), known)
			}
		}
	})
}
