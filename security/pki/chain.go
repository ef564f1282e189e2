package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"biosv/internal/durable"
)

// InstallChain puts a chain into force that somebody made for the issuing key: its certificate first, a
// self-signed root last.
func (i *Issuer) InstallChain(text []byte) ([]*x509.Certificate, error) {
	chain, err := i.check(text)
	if err != nil {
		return nil, err
	}
	if err := i.try(chain); err != nil {
		return nil, err
	}
	return chain, i.install(chain)
}

// try issues a certificate under a chain and verifies it: what a path length, an extended key usage or a name
// constraint above forbids is found out before anybody is shown it.
func (i *Issuer) try(chain []*x509.Certificate) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	for what, usage := range map[string]x509.ExtKeyUsage{"service": x509.ExtKeyUsageServerAuth, "person": x509.ExtKeyUsageClientAuth} {
		c, err := i.issueUnder(chain[0], &key.PublicKey, &x509.Certificate{
			Subject: pkix.Name{CommonName: what}, ExtKeyUsage: []x509.ExtKeyUsage{usage}, URIs: []*url.URL{{Scheme: "spiffe", Host: i.trustDomain, Path: "/" + what + "/trial"}},
		}, time.Minute)
		if err != nil {
			return err
		}
		if err := verify(c, chain, i.clock(), usage); err != nil {
			return fmt.Errorf("%w: a certificate issued under it, for a %s, is not valid: %w", ErrChain, what, err)
		}
	}
	return nil
}

func verify(c *x509.Certificate, above []*x509.Certificate, at time.Time, usage x509.ExtKeyUsage) error {
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(above[len(above)-1])
	for _, c := range above[:len(above)-1] {
		between.AddCert(c)
	}
	_, err := c.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{usage}})
	return err
}

// parse reads certificates, PEM.
func parse(text []byte, most int) (list []*x509.Certificate, err error) {
	for len(bytes.TrimSpace(text)) > 0 {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil || block.Type != "CERTIFICATE" || len(list) == most {
			return nil, fmt.Errorf("%w: 1 to %d PEM blocks of type CERTIFICATE are expected", ErrChain, most)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%w: certificate %d: %w", ErrChain, len(list)+1, err)
		}
		list = append(list, c)
	}
	return list, nil
}

// check reads a chain and verifies it (RFC 5280, section 6).
func (i *Issuer) check(text []byte) ([]*x509.Certificate, error) {
	chain, err := parse(text, mostChain)
	if err != nil {
		return nil, err
	}
	if len(chain) == 0 {
		return nil, fmt.Errorf("%w: it is empty", ErrChain)
	}
	first, root := chain[0], chain[len(chain)-1]
	if !equal(first.PublicKey, i.key.Public()) {
		return nil, fmt.Errorf("%w: the first certificate of the chain is not for this service's issuing key", ErrKey)
	}
	if err := root.CheckSignatureFrom(root); err != nil {
		return nil, fmt.Errorf("%w: the last certificate (%s) is not a self-signed root: %w", ErrChain, root.Subject, err)
	}
	for n, c := range chain {
		if !c.IsCA || !c.BasicConstraintsValid || c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0 {
			return nil, fmt.Errorf("%w: %s may not issue certificates (basic constraint CA and key usage keyCertSign)", ErrChain, c.Subject)
		}
		if n+1 < len(chain) {
			if err := c.CheckSignatureFrom(chain[n+1]); err != nil {
				return nil, fmt.Errorf("%w: %s is not signed by %s: %w", ErrSignature, c.Subject, chain[n+1].Subject, err)
			}
		}
	}
	if err := verify(first, chain, i.clock(), x509.ExtKeyUsageAny); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrChain, err)
	}
	return chain, nil
}

// install writes the chain, with what the issuing key had before, then uses it, then writes the root that clients
// pin.
func (i *Issuer) install(chain []*x509.Certificate) error {
	anchors := merged(chain[0], i.Anchors())
	if err := durable.WriteFile(filepath.Join(i.dir, anchorsFile), encode(anchors...), 0o644); err != nil {
		return err
	}
	if err := durable.WriteFile(filepath.Join(i.dir, chainFile), encode(chain...), 0o644); err != nil {
		return err
	}
	i.mu.Lock()
	i.chain, i.anchors = chain, anchors
	i.mu.Unlock()
	return i.writeRoot()
}

// writeRoot writes the root that clients pin, where it is another one.
func (i *Issuer) writeRoot() error {
	chain := i.Chain()
	path, root := filepath.Join(i.dir, RootFile), encode(chain[len(chain)-1])
	if there, err := os.ReadFile(path); err == nil && bytes.Equal(there, root) {
		return nil
	}
	return durable.WriteFile(path, root, 0o644)
}

// readAnchors reads what the issuing key has had. A certificate for another key would make somebody else issue in
// its name.
func (i *Issuer) readAnchors() error {
	text, err := os.ReadFile(filepath.Join(i.dir, anchorsFile))
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	former, err := parse(text, mostFormer)
	if err != nil {
		return err
	}
	for _, c := range former {
		if !equal(c.PublicKey, i.key.Public()) {
			return fmt.Errorf("%w: %s is not for this service's issuing key", ErrKey, c.Subject)
		}
	}
	i.anchors = former
	return nil
}

// merged puts a certificate of the issuing key before those that it had. Verification goes by the issuer's name,
// so one of each name is enough.
func merged(newest *x509.Certificate, former []*x509.Certificate) []*x509.Certificate {
	anchors := []*x509.Certificate{newest}
	for _, c := range former {
		if !bytes.Equal(c.RawSubject, newest.RawSubject) && len(anchors) < mostFormer {
			anchors = append(anchors, c)
		}
	}
	return anchors
}

// Anchors are the certificates of the issuing key, that in force and those before it: what was issued under any of
// them was issued by this service. A company's root vouches for the service, and is none of them: what else it or
// its other authorities issue is not this service's.
func (i *Issuer) Anchors() []*x509.Certificate {
	i.mu.RLock()
	defer i.mu.RUnlock()
	return i.anchors
}
