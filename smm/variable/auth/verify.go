package auth

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"biosv/smm/variable/efi"
)

// Verify says whether the signer made this signature over message (section 8.2.6, step 4). Errors are
// EFI_SECURITY_VIOLATION. It says nothing about who the signer is.
func (s *SignedData) Verify(message []byte) error {
	if s.attributes != nil {
		h := s.digest.New()
		h.Write(message)
		if err := checkAttributes(s.attributes, h.Sum(nil)); err != nil {
			return efi.Refuse(efi.SecurityViolation, "the signed attributes: %v", err)
		}
		// The signature is over the attributes as a SET OF, which in the SignerInfo are tagged [0] (RFC 2315, 9.3).
		var b cryptobyte.Builder
		b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) { b.AddBytes(s.attributes) })
		set, err := b.Bytes()
		if err != nil {
			return efi.Refuse(efi.SecurityViolation, "the signed attributes: %v", err)
		}
		message = set
	}
	if err := s.Signer.CheckSignature(algorithms[s.digest], message, s.signature); err != nil {
		return efi.Refuse(efi.SecurityViolation, "the signature by %q is not over this name, vendor, attributes, time stamp and value: %v", s.Signer.Subject, err)
	}
	return nil
}

// checkAttributes asks for the two attributes that RFC 2315, section 9.2, requires, each once: the content type and
// the digest of the content.
func checkAttributes(in cryptobyte.String, digest []byte) error {
	var types, sums int
	for !in.Empty() {
		var one, values cryptobyte.String
		var oid asn1.ObjectIdentifier
		if !in.ReadASN1(&one, cbasn1.SEQUENCE) || !one.ReadASN1ObjectIdentifier(&oid) || !one.ReadASN1(&values, cbasn1.SET) || !one.Empty() {
			return errors.New("they are no DER")
		}
		switch {
		case oid.Equal(oidContentType):
			var kind asn1.ObjectIdentifier
			if !values.ReadASN1ObjectIdentifier(&kind) || !values.Empty() || !kind.Equal(oidData) {
				return errors.New("their content type is not data")
			}
			types++
		case oid.Equal(oidMessageDigest):
			var sum cryptobyte.String
			if !values.ReadASN1(&sum, cbasn1.OCTET_STRING) || !values.Empty() || !bytes.Equal(sum, digest) {
				return errors.New("their digest is not that of this name, vendor, attributes, time stamp and value")
			}
			sums++
		}
	}
	if types != 1 || sums != 1 {
		return errors.New("they lack the content type or the message digest")
	}
	return nil
}

// MadeWith says whether the signer's certificate is this one: a signature "made with the current Platform Key" has no
// chain (section 8.2.6, step 5).
func (s *SignedData) MadeWith(c *x509.Certificate) bool { return s.Signer.Equal(c) }

// ChainsTo says whether the signer's certificate is one of those that are trusted, or chains to one by certificates
// that came with the signature. The trusted one need not be self-signed, and no certificate's validity in time or
// extended key usage is asked for: firmware has no time that it could trust, and edk2 does the same
// (CryptPkcs7VerifyCommon.c: X509_V_FLAG_PARTIAL_CHAIN | X509_V_FLAG_NO_CHECK_TIME, X509_PURPOSE_ANY). Issuers must
// be certificate authorities, as edk2's OpenSSL asks too; signatures by SHA-1 or MD5 in the chain are refused.
func (s *SignedData) ChainsTo(trusted []*x509.Certificate) bool {
	return s.walk(func(c *x509.Certificate) bool {
		for _, t := range trusted {
			if c.Equal(t) || bytes.Equal(c.RawIssuer, t.RawSubject) && c.CheckSignatureFrom(t) == nil {
				return true
			}
		}
		return false
	})
}

// walk calls fn with the signer's certificate and those above it that came with the signature, nearest first, until
// fn returns true, and says whether it did. Each certificate is visited once.
func (s *SignedData) walk(fn func(*x509.Certificate) bool) bool {
	seen := map[*x509.Certificate]bool{s.Signer: true}
	level := []*x509.Certificate{s.Signer}
	for depth := 0; depth < maxChain && len(level) > 0; depth++ {
		var above []*x509.Certificate
		for _, c := range level {
			if fn(c) {
				return true
			}
			for _, issuer := range s.Certificates {
				if !seen[issuer] && bytes.Equal(c.RawIssuer, issuer.RawSubject) && c.CheckSignatureFrom(issuer) == nil {
					seen[issuer] = true
					above = append(above, issuer)
				}
			}
		}
		level = above
	}
	return false
}

// Owner is what a private authenticated variable keeps of who made it: the SHA-256 digest of the common name of the
// signer's subject and the tbsCertificate of the top-level issuer that came with the signature, which is the signer's
// own where no other did (section 8.2.6, step 5: "Implementations may store just a single hash of these two
// elements"). edk2 keeps the same digest in its variable certdb.
type Owner [sha256.Size]byte

// Owner gives what a new private authenticated variable keeps.
func (s *SignedData) Owner() (Owner, error) {
	name, err := s.commonName()
	if err != nil {
		return Owner{}, err
	}
	top := s.Signer
	s.walk(func(c *x509.Certificate) bool {
		top = c
		return false
	})
	return ownerOf(name, top), nil
}

// IsBy says whether the signer's certificate chains to what a private authenticated variable kept: any certificate
// from the signer's up may be the one that was top-level then. (edk2 takes the signer's own for the top-level one
// whatever came with it: Pkcs7GetSigners gives no others.)
func (s *SignedData) IsBy(o Owner) (bool, error) {
	name, err := s.commonName()
	if err != nil {
		return false, err
	}
	return s.walk(func(c *x509.Certificate) bool { return ownerOf(name, c) == o }), nil
}

func ownerOf(name string, top *x509.Certificate) (o Owner) {
	h := sha256.New()
	h.Write([]byte(name))
	h.Write(top.RawTBSCertificate)
	return Owner(h.Sum(nil))
}

var oidCommonName = asn1.ObjectIdentifier{2, 5, 4, 3}

// commonName is the first common name of the signer's subject.
func (s *SignedData) commonName() (string, error) {
	var subject pkix.RDNSequence
	if _, err := asn1.Unmarshal(s.Signer.RawSubject, &subject); err != nil {
		return "", efi.Refuse(efi.SecurityViolation, "the subject of the signer's certificate: %v", err)
	}
	for _, set := range subject {
		for _, a := range set {
			if name, ok := a.Value.(string); ok && a.Type.Equal(oidCommonName) {
				return name, nil
			}
		}
	}
	return "", efi.Refuse(efi.SecurityViolation, "the subject of the signer's certificate has no common name, by which a variable could know its signer again")
}
