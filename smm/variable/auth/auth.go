// Package auth reads and verifies what stands before the value in a call that writes a time-based authenticated
// variable: EFI_VARIABLE_AUTHENTICATION_2, which is a time stamp and a PKCS #7 signature (UEFI 2.10, section 8.2.6).
//
// [Parse] takes a descriptor off, [ParseSignedData] reads its signature, [SignedData.Verify] says whether its signer
// made it over what [Digest] hashes, and [SignedData.ChainsTo] and [SignedData.MadeWith] whose signature it is. Who
// must have signed which variable is no matter of this package.
//
// It refuses what the specification does not have: other signatures than RSA PKCS #1 v1.5, digests other than
// SHA-256, SHA-384 and SHA-512, embedded content, more than one signer, and encodings that are not DER. It takes
// signed attributes although a caller shall not use them, since firmware verifies them too and tools write them.
package auth

import (
	"encoding/binary"

	"biosv/smm/variable/efi"
)

const (
	winCertificate     = 8                   // bytes of a WIN_CERTIFICATE header
	winCertificateGUID = winCertificate + 16 // and of a WIN_CERTIFICATE_UEFI_GUID before CertData
	revision           = 0x0200              // WIN_CERTIFICATE.wRevision
	typeEFIGUID        = 0x0EF1              // WIN_CERT_TYPE_EFI_GUID

	// Overhead is how many bytes a descriptor has besides its CertData.
	Overhead = efi.TimeSize + winCertificateGUID
)

// pkcs7 is EFI_CERT_TYPE_PKCS7_GUID, the one CertType that is accepted.
var pkcs7 = efi.MustGUID("4aafd29d-68df-49ee-8aa9-347d375665a7")

// Descriptor is an EFI_VARIABLE_AUTHENTICATION_2.
type Descriptor struct {
	TimeStamp efi.Time
	CertData  []byte // a DER-encoded SignedData, bare or in a ContentInfo; empty where a caller in setup mode signs nothing
}

// Parse takes the descriptor off the data of a call, and checks its form and the zero components of its time stamp
// (section 8.2.6, steps 1 and 2). What follows it is the variable's new value. Both share the memory of data. Errors
// are EFI_SECURITY_VIOLATION.
func Parse(data []byte) (d Descriptor, value []byte, err error) {
	if len(data) < Overhead {
		return d, nil, efi.Refuse(efi.SecurityViolation, "the data has %d bytes, and an authentication descriptor at least %d", len(data), Overhead)
	}
	d.TimeStamp = efi.Time(data[:efi.TimeSize])
	header := data[efi.TimeSize:]
	length := binary.LittleEndian.Uint32(header)
	switch {
	case !d.TimeStamp.IsStamp():
		err = efi.Refuse(efi.SecurityViolation, "the time stamp has components other than year to second")
	case binary.LittleEndian.Uint16(header[4:]) != revision:
		err = efi.Refuse(efi.SecurityViolation, "the certificate's revision is %#04x, not %#04x", binary.LittleEndian.Uint16(header[4:]), revision)
	case binary.LittleEndian.Uint16(header[6:]) != typeEFIGUID:
		err = efi.Refuse(efi.SecurityViolation, "the certificate's type is %#04x, not WIN_CERT_TYPE_EFI_GUID", binary.LittleEndian.Uint16(header[6:]))
	case efi.GUID(header[winCertificate:winCertificateGUID]) != pkcs7:
		err = efi.Refuse(efi.SecurityViolation, "the CertType is %s, not EFI_CERT_TYPE_PKCS7_GUID", efi.GUID(header[winCertificate:winCertificateGUID]))
	case length < winCertificateGUID || uint64(length) > uint64(len(header)):
		err = efi.Refuse(efi.SecurityViolation, "the certificate's length is %d, where %d bytes are left and its header has %d", length, len(header), winCertificateGUID)
	default:
		d.CertData, value = header[winCertificateGUID:length:length], header[length:]
	}
	return d, value, err
}

// Append writes a descriptor after b.
func (d Descriptor) Append(b []byte) []byte {
	b = append(b, d.TimeStamp[:]...)
	b = binary.LittleEndian.AppendUint32(b, uint32(winCertificateGUID+len(d.CertData)))
	b = binary.LittleEndian.AppendUint16(b, revision)
	b = binary.LittleEndian.AppendUint16(b, typeEFIGUID)
	b = append(b, pkcs7[:]...)
	return append(b, d.CertData...)
}

// Message is what a signature is over: name without its NULL, vendor, attributes as the call has them, time stamp,
// and the new value (section 8.2.6, step 2 of the caller's).
func Message(name string, vendor efi.GUID, attributes efi.Attributes, stamp efi.Time, value []byte) []byte {
	m := efi.EncodeName(name)
	m = append(m, vendor[:]...)
	m = binary.LittleEndian.AppendUint32(m, uint32(attributes))
	m = append(m, stamp[:]...)
	return append(m, value...)
}
