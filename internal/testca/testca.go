// Package testca makes certificates for tests: authorities, what they issue, and what no authority should have
// issued. Begin with [NewRoot].
package testca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/url"
	"testing"
	"time"
)

// Edit changes a certificate before it is signed.
type Edit func(*x509.Certificate)

// Authority is a certificate authority.
type Authority struct {
	Certificate *x509.Certificate
	Above       []*x509.Certificate // from the one that issued Certificate to the root; none for a root
	key         crypto.Signer
}

// Key makes a P-256 key.
func Key(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// NewRoot makes an authority that vouches for itself. Until an Edit says otherwise, certificates of an authority
// are valid from an hour ago for a day.
func NewRoot(t testing.TB, name string, edits ...Edit) *Authority {
	t.Helper()
	key := Key(t)
	template := authority(name, edits)
	return &Authority{Certificate: sign(t, template, template, key.Public(), key), key: key}
}

// Sub makes an authority below this one.
func (a *Authority) Sub(t testing.TB, name string, edits ...Edit) *Authority {
	t.Helper()
	key := Key(t)
	return &Authority{Certificate: a.Certify(t, name, key.Public(), edits...), Above: a.Chain(), key: key}
}

// Certify makes the certificate of an authority below this one whose key is elsewhere.
func (a *Authority) Certify(t testing.TB, name string, key crypto.PublicKey, edits ...Edit) *x509.Certificate {
	t.Helper()
	return sign(t, authority(name, edits), a.Certificate, key, a.key)
}

// Issue makes the certificate of an end entity, for TLS clients until an Edit says otherwise.
func (a *Authority) Issue(t testing.TB, key crypto.PublicKey, edits ...Edit) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "of a test"}, KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	return sign(t, edited(template, edits), a.Certificate, key, a.key)
}

// Pair makes a key with the certificate of an end entity, and the chain above it but the root.
func (a *Authority) Pair(t testing.TB, edits ...Edit) tls.Certificate {
	t.Helper()
	key := Key(t)
	leaf := a.Issue(t, key.Public(), edits...)
	pair := tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
	chain := a.Chain()
	for _, c := range chain[:len(chain)-1] {
		pair.Certificate = append(pair.Certificate, c.Raw)
	}
	return pair
}

// FromPair makes an authority of a key with its certificate, whether it may be one or not.
func FromPair(pair tls.Certificate) *Authority {
	return &Authority{Certificate: pair.Leaf, key: pair.PrivateKey.(crypto.Signer)}
}

// Chain is the authority's certificate and those above it, the root last.
func (a *Authority) Chain() []*x509.Certificate {
	return append([]*x509.Certificate{a.Certificate}, a.Above...)
}

// Named gives a certificate URI names.
func Named(ids ...string) Edit {
	return func(c *x509.Certificate) {
		for _, id := range ids {
			u, err := url.Parse(id)
			if err != nil {
				panic(err) // a constant of a test
			}
			c.URIs = append(c.URIs, u)
		}
	}
}

// Valid says from when until when a certificate is valid.
func Valid(from, to time.Time) Edit {
	return func(c *x509.Certificate) { c.NotBefore, c.NotAfter = from, to }
}

// Usage says what a certificate is for.
func Usage(usages ...x509.ExtKeyUsage) Edit {
	return func(c *x509.Certificate) { c.ExtKeyUsage = usages }
}

// PEM is certificates as text.
func PEM(certificates ...*x509.Certificate) []byte {
	var b bytes.Buffer
	for _, c := range certificates {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	return b.Bytes()
}

func authority(name string, edits []Edit) *x509.Certificate {
	return edited(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}, edits)
}

func edited(template *x509.Certificate, edits []Edit) *x509.Certificate {
	var serial [16]byte
	rand.Read(serial[1:]) // positive
	template.SerialNumber = new(big.Int).SetBytes(serial[:])
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	for _, edit := range edits {
		edit(template)
	}
	return template
}

func sign(t testing.TB, template, parent *x509.Certificate, key crypto.PublicKey, signer crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key, signer)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
