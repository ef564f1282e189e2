// Package pki issues certificates with the issuing key (RFC 5280; SPIFFE X.509-SVID for names). The key's own
// certificate is a root of its own making, or one that a company's certificate authority made for it. Under it
// stand the service's TLS certificates, which live for hours and whose keys are in memory only, and the
// certificates of operators and domains.
//
// Begin with [Open]. The issuing key is any crypto.Signer; where it is a crypto.MessageSigner, as a restricted TPM
// key is, it hashes what it signs itself.
package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"
)

const (
	rootLife   = 20 * 365 * 24 * time.Hour
	clientLife = 397 * 24 * time.Hour
	skew       = 5 * time.Minute // how far the clocks of peers may be behind
	mostChain  = 8
	mostFormer = 16 // certificates that the issuing key has had
)

// Names of files in the folder of trust.
const (
	RootFile    = "root.pem"    // what clients pin
	chainFile   = "chain.pem"   // the issuing key's certificate and those above it
	anchorsFile = "anchors.pem" // the certificates that the issuing key has had, the newest first
)

// The errors that callers tell apart.
var (
	ErrRequest   = errors.New("the certificate request is not right")
	ErrSignature = errors.New("the signature is not right")
	ErrChain     = errors.New("the certificate chain is not right")
	ErrKey       = errors.New("the certificate is for another key")
)

// Issuer issues certificates. It is safe for concurrent use.
type Issuer struct {
	key         crypto.Signer
	dir         string
	trustDomain string
	clock       func() time.Time

	mu      sync.RWMutex
	chain   []*x509.Certificate // the issuing key's first, the root last
	anchors []*x509.Certificate // the issuing key's that it has had, of each subject one
}

// Open opens the issuer of a folder; where it has no chain, the issuing key certifies itself.
func Open(key crypto.Signer, dir, trustDomain string, clock func() time.Time) (*Issuer, error) {
	i := &Issuer{key: key, dir: dir, trustDomain: trustDomain, clock: clock}
	if err := i.readAnchors(); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, anchorsFile), err)
	}
	text, err := os.ReadFile(filepath.Join(dir, chainFile))
	if os.IsNotExist(err) {
		root, err := i.selfSign()
		if err != nil {
			return nil, fmt.Errorf("make the root certificate: %w", err)
		}
		return i, i.install([]*x509.Certificate{root})
	}
	if err != nil {
		return nil, err
	}
	if i.chain, err = i.check(text); err != nil {
		return nil, fmt.Errorf("%s: %w (without this file, the issuing key certifies itself again)", filepath.Join(dir, chainFile), err)
	}
	i.anchors = merged(i.chain[0], i.anchors)
	return i, i.writeRoot() // a crash may have come between the two files
}

func (i *Issuer) selfSign() (*x509.Certificate, error) {
	now := i.clock()
	key, err := keyIdentifier(i.key.Public())
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SubjectKeyId: key,
		SerialNumber: serial(), Subject: i.subject(), NotBefore: now.Add(-skew), NotAfter: now.Add(rootLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLen: 0, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, i.key.Public(), i.key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// keyIdentifier names a key as most certificate authorities do (RFC 5280, section 4.2.1.2, method 1). A company's
// certificate for the same key then bears the same name, and clients that know both roots find their way: Java
// follows the identifier of a certificate's issuer, and nothing else. It protects nothing, so SHA-1 will do.
func keyIdentifier(key crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, err
	}
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &info); err != nil {
		return nil, err
	}
	sum := sha1.Sum(info.Key.RightAlign())
	return sum[:], nil
}

func (i *Issuer) subject() pkix.Name {
	return pkix.Name{Organization: []string{"BIOS.v"}, CommonName: "BIOS.v issuing key of " + i.trustDomain}
}

// Chain gives the issuing key's certificate and those above it, the root last.
func (i *Issuer) Chain() []*x509.Certificate {
	i.mu.RLock()
	defer i.mu.RUnlock()
	return i.chain
}

// CertificateRequest makes a PKCS #10 request (RFC 2986) for the issuing key, PEM.
func (i *Issuer) CertificateRequest() ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: i.subject()}, i.key)
	if err != nil {
		return nil, fmt.Errorf("make the certificate request: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}

// IssueClient issues a certificate for a key that a PKCS #10 request (DER) proves the possession of. The names in
// the request do not count: the certificate names id.
func (i *Issuer) IssueClient(request []byte, id *url.URL) (*x509.Certificate, error) {
	r, err := x509.ParseCertificateRequest(request)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	if err := r.CheckSignature(); err != nil {
		return nil, fmt.Errorf("%w: the request is not signed by its own key: %w", ErrSignature, err)
	}
	switch k := r.PublicKey.(type) {
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < 2048 || n > 8192 {
			return nil, fmt.Errorf("%w: its RSA key has %d bits; 2048 to 8192 are accepted", ErrRequest, n)
		}
	case *ecdsa.PublicKey:
		if n := k.Curve.Params().BitSize; n < 256 {
			return nil, fmt.Errorf("%w: its curve has %d bits; P-256 or a larger one is needed", ErrRequest, n)
		}
	case ed25519.PublicKey:
	default:
		return nil, fmt.Errorf("%w: its key is of a kind (%T) that is not supported; use ECDSA, RSA or Ed25519", ErrRequest, r.PublicKey)
	}
	return i.issueClient(r.PublicKey, id)
}

func (i *Issuer) issueClient(key crypto.PublicKey, id *url.URL) (*x509.Certificate, error) {
	return i.issue(key, &x509.Certificate{
		Subject: pkix.Name{Organization: []string{"BIOS.v"}, CommonName: filepath.Base(id.Path)}, URIs: []*url.URL{id},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, clientLife)
}

// issue signs a certificate of an end entity, which does not outlive its issuer's.
func (i *Issuer) issue(key crypto.PublicKey, template *x509.Certificate, life time.Duration) (*x509.Certificate, error) {
	return i.issueUnder(i.Chain()[0], key, template, life)
}

func (i *Issuer) issueUnder(issuer *x509.Certificate, key crypto.PublicKey, template *x509.Certificate, life time.Duration) (*x509.Certificate, error) {
	now := i.clock()
	if now.After(issuer.NotAfter) {
		return nil, fmt.Errorf("issue a certificate: that of the issuing key ended on %s", issuer.NotAfter.UTC().Format(time.RFC3339))
	}
	template.SerialNumber, template.KeyUsage, template.BasicConstraintsValid = serial(), x509.KeyUsageDigitalSignature, true
	template.NotBefore, template.NotAfter = now.Add(-skew), now.Add(life)
	if template.NotAfter.After(issuer.NotAfter) {
		template.NotAfter = issuer.NotAfter
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, key, i.key)
	if err != nil {
		return nil, fmt.Errorf("issue a certificate: %w", err)
	}
	return x509.ParseCertificate(der)
}

// serial is a random number of 127 bits (RFC 5280 section 4.1.2.2 asks for a positive one of at most 20 bytes).
func serial() *big.Int {
	var b [16]byte
	rand.Read(b[:])
	b[0] &= 0x7f
	return new(big.Int).SetBytes(b[:])
}

func encode(list ...*x509.Certificate) []byte {
	var b bytes.Buffer
	for _, c := range list {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	return b.Bytes()
}

// PEM gives a certificate and the chain above it.
func (i *Issuer) PEM(c *x509.Certificate) []byte {
	return append(encode(c), encode(i.Chain()...)...)
}

// KeyFingerprint is the SHA-256 of the issuing key's SubjectPublicKeyInfo.
func (i *Issuer) KeyFingerprint() ([sha256.Size]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(i.key.Public())
	if err != nil {
		return [sha256.Size]byte{}, err
	}
	return sha256.Sum256(der), nil
}

func equal(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}
