package auth

import (
	"bytes"
	"crypto"
	_ "crypto/sha256" // for crypto.Hash.New
	_ "crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"biosv/smm/variable/efi"
)

// The most that one signature may carry.
const (
	MaxCertData     = 64 << 10 // bytes
	MaxCertificates = 16
	maxChain        = 8 // certificates from signer to trust anchor
)

var (
	oidData          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidSignedData    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	oidContentType   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}
	oidMessageDigest = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}
)

// digests are the digest algorithms that are accepted (section 8.2.6, step 4b of the caller's).
var digests = map[string]crypto.Hash{
	"2.16.840.1.101.3.4.2.1": crypto.SHA256,
	"2.16.840.1.101.3.4.2.2": crypto.SHA384,
	"2.16.840.1.101.3.4.2.3": crypto.SHA512,
}

// signatures are the digestEncryptionAlgorithms of RSA PKCS #1 v1.5, with the digest that each goes with; 0 is any.
var signatures = map[string]crypto.Hash{
	"1.2.840.113549.1.1.1":  0, // rsaEncryption
	"1.2.840.113549.1.1.11": crypto.SHA256,
	"1.2.840.113549.1.1.12": crypto.SHA384,
	"1.2.840.113549.1.1.13": crypto.SHA512,
}

var algorithms = map[crypto.Hash]x509.SignatureAlgorithm{
	crypto.SHA256: x509.SHA256WithRSA, crypto.SHA384: x509.SHA384WithRSA, crypto.SHA512: x509.SHA512WithRSA,
}

// errUnsupported is in the errors about algorithms. They are EFI_INVALID_PARAMETER, and all others
// EFI_SECURITY_VIOLATION: section 8.2.3, "firmware does not support signature type of the certificate included", of
// which "signature type … is defined by its digest and encryption algorithms".
var errUnsupported = errors.New("not supported")

// SignedData is a PKCS #7 SignedData of one signer (RFC 2315, section 9.1).
type SignedData struct {
	Signer       *x509.Certificate
	Certificates []*x509.Certificate // all that came with it, the signer's among them

	digest     crypto.Hash
	attributes []byte // the content octets of the signed attributes, nil where there are none
	signature  []byte
}

// ParseSignedData reads a SignedData, bare as the specification has it, or in a ContentInfo as many tools write it:
// "shall be supported both with and without" (section 8.2.6, step 4 of the caller's).
func ParseSignedData(der []byte) (*SignedData, error) {
	s, err := parseSignedData(der)
	switch {
	case errors.Is(err, errUnsupported):
		return nil, efi.Refuse(efi.InvalidParameter, "the signature: %v", err)
	case err != nil:
		return nil, efi.Refuse(efi.SecurityViolation, "the signature is no PKCS #7 SignedData that a variable can have: %v", err)
	}
	return s, nil
}

func parseSignedData(der []byte) (*SignedData, error) {
	if len(der) > MaxCertData {
		return nil, fmt.Errorf("it has %d bytes; %d are allowed", len(der), MaxCertData)
	}
	in := cryptobyte.String(der)
	var body cryptobyte.String
	if !in.ReadASN1(&body, cbasn1.SEQUENCE) || !in.Empty() {
		return nil, errors.New("it is not one DER sequence and nothing else")
	}
	if body.PeekASN1Tag(cbasn1.OBJECT_IDENTIFIER) {
		var kind asn1.ObjectIdentifier
		var content cryptobyte.String
		if !body.ReadASN1ObjectIdentifier(&kind) || !kind.Equal(oidSignedData) ||
			!body.ReadASN1(&content, cbasn1.Tag(0).ContextSpecific().Constructed()) || !body.Empty() ||
			!content.ReadASN1(&body, cbasn1.SEQUENCE) || !content.Empty() {
			return nil, errors.New("its ContentInfo holds no SignedData")
		}
	}
	var version int
	if !body.ReadASN1Integer(&version) || version != 1 {
		return nil, errors.New("its version is not 1")
	}
	var digestSet, content cryptobyte.String
	if !body.ReadASN1(&digestSet, cbasn1.SET) || !body.ReadASN1(&content, cbasn1.SEQUENCE) {
		return nil, errors.New("it does not go on with digestAlgorithms and contentInfo")
	}
	var contentType asn1.ObjectIdentifier
	if !content.ReadASN1ObjectIdentifier(&contentType) || !contentType.Equal(oidData) {
		return nil, errors.New("its content type is not data")
	}
	if !content.Empty() {
		return nil, errors.New("it embeds content, which is given beside it")
	}
	s := &SignedData{}
	var err error
	if s.Certificates, err = readCertificates(&body); err != nil {
		return nil, err
	}
	if !body.SkipOptionalASN1(cbasn1.Tag(1).ContextSpecific().Constructed()) {
		return nil, errors.New("its crls are no DER")
	}
	var signers, signer cryptobyte.String
	if !body.ReadASN1(&signers, cbasn1.SET) || !body.Empty() || !signers.ReadASN1(&signer, cbasn1.SEQUENCE) || !signers.Empty() {
		return nil, errors.New("it does not end with the signerInfos of exactly one signer")
	}
	if err := s.readSigner(signer); err != nil {
		return nil, err
	}
	return s, s.checkDigests(digestSet)
}

func readCertificates(body *cryptobyte.String) (certificates []*x509.Certificate, err error) {
	var set cryptobyte.String
	var there bool
	if !body.ReadOptionalASN1(&set, &there, cbasn1.Tag(0).ContextSpecific().Constructed()) {
		return nil, errors.New("its certificates are no DER")
	}
	for !set.Empty() {
		var raw cryptobyte.String
		if len(certificates) == MaxCertificates {
			return nil, fmt.Errorf("it has more than %d certificates", MaxCertificates)
		}
		if !set.ReadASN1Element(&raw, cbasn1.SEQUENCE) {
			return nil, fmt.Errorf("certificate %d is no DER", len(certificates))
		}
		c, err := x509.ParseCertificate(raw)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(certificates), err)
		}
		certificates = append(certificates, c)
	}
	return certificates, nil
}

// readSigner reads a SignerInfo (RFC 2315, section 9.2) and finds its certificate.
func (s *SignedData) readSigner(in cryptobyte.String) error {
	var version int
	var id, issuer, digest, encryption, attributes, signature cryptobyte.String
	serial := new(big.Int)
	if !in.ReadASN1Integer(&version) || version != 1 {
		return errors.New("the version of its signer is not 1")
	}
	if !in.ReadASN1(&id, cbasn1.SEQUENCE) || !id.ReadASN1Element(&issuer, cbasn1.SEQUENCE) || !id.ReadASN1Integer(serial) || !id.Empty() {
		return errors.New("its signer is not named by issuer and serial number")
	}
	var signed bool
	if !in.ReadASN1(&digest, cbasn1.SEQUENCE) ||
		!in.ReadOptionalASN1(&attributes, &signed, cbasn1.Tag(0).ContextSpecific().Constructed()) ||
		!in.ReadASN1(&encryption, cbasn1.SEQUENCE) ||
		!in.ReadASN1(&signature, cbasn1.OCTET_STRING) ||
		!in.SkipOptionalASN1(cbasn1.Tag(1).ContextSpecific().Constructed()) || !in.Empty() {
		return errors.New("its signer is no SignerInfo")
	}
	if signed {
		s.attributes = attributes
	}
	s.signature = signature
	var ok bool
	oid, err := algorithm(digest)
	if err != nil {
		return fmt.Errorf("the digest algorithm of its signer: %w", err)
	}
	if s.digest, ok = digests[oid.String()]; !ok {
		return fmt.Errorf("the digest algorithm %s is %w; SHA-256, SHA-384 and SHA-512 are", oid, errUnsupported)
	}
	if oid, err = algorithm(encryption); err != nil {
		return fmt.Errorf("the signature algorithm of its signer: %w", err)
	}
	if with, ok := signatures[oid.String()]; !ok || with != 0 && with != s.digest {
		return fmt.Errorf("the signature algorithm %s with %v is %w; RSA PKCS #1 v1.5 is", oid, s.digest, errUnsupported)
	}
	for _, c := range s.Certificates {
		if c.SerialNumber.Cmp(serial) == 0 && bytes.Equal(c.RawIssuer, issuer) {
			s.Signer = c
			return nil
		}
	}
	return errors.New("the certificate of its signer is not in it")
}

// algorithm reads the object identifier of an AlgorithmIdentifier.
func algorithm(in cryptobyte.String) (oid asn1.ObjectIdentifier, err error) {
	if !in.ReadASN1ObjectIdentifier(&oid) {
		return nil, errors.New("it has no object identifier")
	}
	return oid, nil
}

// checkDigests asks that the signer's digest algorithm is among those of the whole.
func (s *SignedData) checkDigests(set cryptobyte.String) error {
	found := false
	for !set.Empty() {
		var one cryptobyte.String
		if !set.ReadASN1(&one, cbasn1.SEQUENCE) {
			return errors.New("its digestAlgorithms are no DER")
		}
		oid, err := algorithm(one)
		if err != nil {
			return fmt.Errorf("its digestAlgorithms: %w", err)
		}
		found = found || digests[oid.String()] == s.digest
	}
	if !found {
		return fmt.Errorf("its digestAlgorithms lack its signer's, %v", s.digest)
	}
	return nil
}
