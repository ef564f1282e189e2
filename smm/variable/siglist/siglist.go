// Package siglist reads and writes signature databases: the values of PK, KEK, db, dbx, dbt and dbr, which are rows
// of EFI_SIGNATURE_LIST, each with EFI_SIGNATURE_DATA of one type and size (UEFI 2.10, section 32.4.1). Begin with
// [Parse].
//
// It is strict: a list of a type that the specification does not define, with sizes that its type does not have, or
// that ends before its size says, is refused, and nothing of the database is given then.
package siglist

import (
	"crypto/x509"
	"encoding/binary"
	"fmt"

	"biosv/smm/variable/efi"
)

// MaxSize is the most bytes that a database may have.
const MaxSize = 1 << 20

const (
	listHeader = 28 // bytes of an EFI_SIGNATURE_LIST before its signature header
	ownerSize  = 16 // bytes of SignatureOwner
)

// The signature types (section 32.4.1).
var (
	SHA256        = efi.MustGUID("c1c41626-504c-4092-aca9-41f936934328")
	RSA2048       = efi.MustGUID("3c5766e8-269c-4e34-aa14-ed776e85b3b6")
	RSA2048SHA256 = efi.MustGUID("e2b36190-879b-4a3d-ad8d-f2e7bba32784")
	SHA1          = efi.MustGUID("826ca512-cf10-4ac9-b187-be01496631bd")
	RSA2048SHA1   = efi.MustGUID("67f8444f-8743-48f1-a328-1eaab8736080")
	X509          = efi.MustGUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
	SHA224        = efi.MustGUID("0b6e5233-a65c-44c9-9407-d9ab83bfc8bd")
	SHA384        = efi.MustGUID("ff3e5307-9fd0-48c9-85f1-8ad56c701e01")
	SHA512        = efi.MustGUID("093e0fae-a6c4-4f50-9f1b-d41e2b89c19a")
	X509SHA256    = efi.MustGUID("3bd2a492-96c0-4079-b420-fcf98ef103ed")
	X509SHA384    = efi.MustGUID("7076876e-80c2-4ee6-aad2-28b349a6865b")
	X509SHA512    = efi.MustGUID("446dbf63-2502-4cda-bcfa-2465d2b0fe9d")
)

// Types are the types with their names and how many bytes a signature has besides its owner; 0 is any number but none.
// No type has a signature header.
var Types = map[efi.GUID]struct {
	Name string
	Size int
}{
	SHA256:        {"SHA256", 32},
	RSA2048:       {"RSA2048", 256},
	RSA2048SHA256: {"RSA2048_SHA256", 256},
	SHA1:          {"SHA1", 20},
	RSA2048SHA1:   {"RSA2048_SHA1", 256},
	X509:          {"X509", 0},
	SHA224:        {"SHA224", 28},
	SHA384:        {"SHA384", 48},
	SHA512:        {"SHA512", 64},
	X509SHA256:    {"X509_SHA256", 32 + efi.TimeSize},
	X509SHA384:    {"X509_SHA384", 48 + efi.TimeSize},
	X509SHA512:    {"X509_SHA512", 64 + efi.TimeSize},
}

// List is an EFI_SIGNATURE_LIST.
type List struct {
	Type       efi.GUID
	Size       int // bytes of each signature with its owner; kept for a list that has none
	Signatures []Signature
}

// Signature is an EFI_SIGNATURE_DATA.
type Signature struct {
	Owner efi.GUID
	Data  []byte
}

// Parse reads a database. No bytes are a database without lists. The signatures share the memory of b.
func Parse(b []byte) ([]List, error) {
	if len(b) > MaxSize {
		return nil, fmt.Errorf("the signature database has %d bytes; %d are allowed", len(b), MaxSize)
	}
	var lists []List
	for at := 0; at < len(b); {
		l, size, err := parseList(b[at:])
		if err != nil {
			return nil, fmt.Errorf("the signature list at byte %d: %w", at, err)
		}
		lists = append(lists, l)
		at += size
	}
	return lists, nil
}

func parseList(b []byte) (l List, size int, err error) {
	if len(b) < listHeader {
		return l, 0, fmt.Errorf("%d bytes are left, and its header has %d", len(b), listHeader)
	}
	l.Type = efi.GUID(b[:16])
	listSize, header, each := binary.LittleEndian.Uint32(b[16:]), binary.LittleEndian.Uint32(b[20:]), binary.LittleEndian.Uint32(b[24:])
	t, known := Types[l.Type]
	switch {
	case !known:
		return l, 0, fmt.Errorf("its type %s is none that the specification defines", l.Type)
	case listSize < listHeader || uint64(listSize) > uint64(len(b)):
		return l, 0, fmt.Errorf("its size is %d, where %d bytes are left and its header has %d", listSize, len(b), listHeader)
	case header != 0:
		return l, 0, fmt.Errorf("its signature header has %d bytes; type %s has none", header, t.Name)
	case each <= ownerSize || t.Size != 0 && each != uint32(ownerSize+t.Size):
		return l, 0, fmt.Errorf("its signatures have %d bytes, which type %s does not", each, t.Name)
	case (listSize-listHeader)%each != 0:
		return l, 0, fmt.Errorf("its %d bytes of signatures are no whole number of %d bytes each", listSize-listHeader, each)
	}
	l.Size = int(each)
	for at := listHeader; at < int(listSize); at += l.Size {
		s := b[at : at+l.Size : at+l.Size]
		l.Signatures = append(l.Signatures, Signature{Owner: efi.GUID(s[:ownerSize]), Data: s[ownerSize:]})
	}
	return l, int(listSize), nil
}

// Append writes lists after b. What [Parse] gave is written as it was.
func Append(b []byte, lists ...List) []byte {
	for _, l := range lists {
		b = append(b, l.Type[:]...)
		b = binary.LittleEndian.AppendUint32(b, uint32(listHeader+l.Size*len(l.Signatures)))
		b = binary.LittleEndian.AppendUint32(b, 0)
		b = binary.LittleEndian.AppendUint32(b, uint32(l.Size))
		for _, s := range l.Signatures {
			b = append(append(b, s.Owner[:]...), s.Data...)
		}
	}
	return b
}

// New makes a list of signatures of one type and size, all of one owner.
func New(kind, owner efi.GUID, data ...[]byte) List {
	l := List{Type: kind, Size: ownerSize + Types[kind].Size}
	for _, d := range data {
		l.Size = ownerSize + len(d)
		l.Signatures = append(l.Signatures, Signature{Owner: owner, Data: d})
	}
	return l
}

// Count is how many signatures the lists have.
func Count(lists []List) (n int) {
	for _, l := range lists {
		n += len(l.Signatures)
	}
	return n
}

// Without gives of some lists what is not yet in others, and no list of which nothing is left: an append does not
// add a signature that is there already (section 8.2.6). Signatures are the same if type, owner and data are.
func Without(lists, there []List) (left []List) {
	known := map[string]bool{}
	for _, l := range there {
		for _, s := range l.Signatures {
			known[l.key(s)] = true
		}
	}
	for _, l := range lists {
		kept := List{Type: l.Type, Size: l.Size}
		for _, s := range l.Signatures {
			if !known[l.key(s)] {
				kept.Signatures = append(kept.Signatures, s)
			}
		}
		if len(kept.Signatures) > 0 {
			left = append(left, kept)
		}
	}
	return left
}

func (l List) key(s Signature) string { return string(l.Type[:]) + string(s.Owner[:]) + string(s.Data) }

// Certificates gives the certificates of the lists of type [X509]. One that cannot be read is left out: nothing can
// be verified with it.
func Certificates(lists []List) (certificates []*x509.Certificate) {
	for _, l := range lists {
		if l.Type != X509 {
			continue
		}
		for _, s := range l.Signatures {
			if c, err := x509.ParseCertificate(s.Data); err == nil {
				certificates = append(certificates, c)
			}
		}
	}
	return certificates
}
