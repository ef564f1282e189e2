// Package tpm is what BIOS.v needs of a TPM 2.0 (TCG, TPM 2.0 Library, revision 1.59): that there is one, what it
// says of itself, platform configuration registers, and two keys that never leave it. The attestation key quotes
// and certifies. The issuing key signs certificates, and can be used only while the registers are as a policy
// says that the launch policy's signer approved.
//
// Begin with [Open]. A TPM does one thing at a time: every method is a transaction under one lock, and leaves
// neither object nor session behind. Nothing here knows what the keys sign.
package tpm

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxtpm"

	"biosv/internal/durable"
)

// pinFile holds the name of the endorsement key that the data folder belongs to.
const pinFile = "ek.name"

// The errors of a TPM as a whole.
var (
	ErrOther  = errors.New("this is another TPM than the one that the data folder was set up with")
	ErrClosed = errors.New("the TPM is closed")
)

// TPM is an open TPM. It is safe for concurrent use.
type TPM struct {
	source Source
	dir    string
	child  *child
	turn   chan struct{} // holds one token: who takes it may speak
	closed bool          // read and written by whoever has the token
	about  Description
}

// Description is what a TPM says of itself.
type Description struct {
	Software        bool // it says that it is software, or is a child of ours
	Manufacturer    string
	FirmwareVersion string
	EKName          string // hexadecimal
	EKCertificate   []byte // DER; may be absent
}

// Open opens a TPM; dir is where a swtpm keeps its state, and where the endorsement key's name is pinned. The
// kind [Software] has no TPM and is not for here.
func Open(ctx context.Context, s Source, dir string) (*TPM, error) {
	s, err := s.settle()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	t := &TPM{source: s, dir: dir, turn: make(chan struct{}, 1)}
	t.turn <- struct{}{}
	if s.Kind == Swtpm {
		if t.child, _, err = startChild(ctx, dir); err != nil {
			return nil, err
		}
	}
	if err := t.introduce(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open the TPM: %w", err), t.Close())
	}
	return t, nil
}

// introduce clears what an earlier process left, reads who the TPM is, and compares it with who it should be.
func (t *TPM) introduce(ctx context.Context) error {
	if err := t.do(ctx, func(c transport.TPM) error {
		if t.child != nil {
			if err := flushAll(c); err != nil {
				return err
			}
		}
		return t.describe(c)
	}); err != nil {
		return err
	}
	path := filepath.Join(t.dir, pinFile)
	pinned, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return durable.WriteFile(path, []byte(t.about.EKName+"\n"), 0o600)
	}
	if err != nil {
		return err
	}
	if strings.TrimSpace(string(pinned)) != t.about.EKName {
		return fmt.Errorf("%w: its endorsement key is %s, and %s names %s", ErrOther, t.about.EKName, path, strings.TrimSpace(string(pinned)))
	}
	return nil
}

// Close ends the use of the TPM; a swtpm is shut down in order.
func (t *TPM) Close() error {
	<-t.turn
	defer func() { t.turn <- struct{}{} }()
	if t.closed {
		return nil
	}
	t.closed = true
	if t.child != nil {
		return t.child.close()
	}
	return nil
}

// Describe gives what the TPM said of itself when it was opened.
func (t *TPM) Describe() Description { return t.about }

// do runs a transaction. A device is opened for each: the kernel's resource manager gives few sessions to an open
// file.
func (t *TPM) do(ctx context.Context, fn func(transport.TPM) error) error {
	select {
	case <-t.turn:
	case <-ctx.Done():
		return fmt.Errorf("wait for the TPM: %w", ctx.Err())
	}
	defer func() { t.turn <- struct{}{} }()
	if t.closed {
		return ErrClosed
	}
	if t.child != nil {
		return errors.Join(fn(patient{t.child}), t.child.sync())
	}
	device, err := linuxtpm.Open(t.source.Path)
	if err != nil {
		return fmt.Errorf("open %s: %w", t.source.Path, err)
	}
	defer device.Close()
	return fn(patient{device})
}

// patient asks again where a TPM asks for that (TPM_RC_RETRY, Part 2, section 6.6.3).
type patient struct{ transport.TPM }

// Send sends a command.
func (p patient) Send(command []byte) (answer []byte, err error) {
	for try := range 10 {
		answer, err = p.TPM.Send(command)
		if err != nil || len(answer) < 10 || string(answer[6:10]) != "\x00\x00\x09\x22" {
			break
		}
		time.Sleep(time.Duration(try) * 5 * time.Millisecond)
	}
	return answer, err
}

// flushAll takes objects and sessions away that a process left which ended in the middle.
func flushAll(c transport.TPM) error {
	for _, first := range []tpm2.TPMHandle{0x80000000, 0x02000000, 0x03000000} {
		answer, err := tpm2.GetCapability{Capability: tpm2.TPMCapHandles, Property: uint32(first), PropertyCount: 64}.Execute(c)
		if err != nil {
			return fmt.Errorf("list handles: %w", err)
		}
		handles, err := answer.CapabilityData.Data.Handles()
		if err != nil {
			return err
		}
		for _, h := range handles.Handle {
			if _, err := (tpm2.FlushContext{FlushHandle: h}).Execute(c); err != nil {
				return fmt.Errorf("flush %#x: %w", h, err)
			}
		}
	}
	return nil
}

// Handles of the RSA endorsement key and of its certificate (TCG EK Credential Profile 2.5, section 2.2).
const (
	ekHandle           = tpm2.TPMHandle(0x81010001)
	ekCertificateIndex = tpm2.TPMHandle(0x01c00002)
)

func (t *TPM) describe(c transport.TPM) error {
	properties, err := fixedProperties(c)
	if err != nil {
		return err
	}
	word := func(p tpm2.TPMPT) string {
		v := properties[p]
		return strings.TrimRight(string([]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)}), " \x00")
	}
	t.about.Manufacturer = word(tpm2.TPMPTManufacturer)
	vendor := word(tpm2.TPMPTVendorString1) + word(tpm2.TPMPTVendorString2)
	t.about.Software = t.child != nil || t.about.Manufacturer == "IBM" || strings.HasPrefix(vendor, "SW")
	t.about.FirmwareVersion = fmt.Sprintf("%d.%d", properties[tpm2.TPMPTFirmwareVersion1]>>16, properties[tpm2.TPMPTFirmwareVersion1]&0xffff)
	name, err := endorsementKey(c)
	if err != nil {
		return err
	}
	t.about.EKName = hex.EncodeToString(name.Buffer)
	t.about.EKCertificate, err = readIndex(c, ekCertificateIndex)
	return err
}

func fixedProperties(c transport.TPM) (map[tpm2.TPMPT]uint32, error) {
	answer, err := tpm2.GetCapability{Capability: tpm2.TPMCapTPMProperties, Property: uint32(tpm2.TPMPTFamilyIndicator), PropertyCount: 64}.Execute(c)
	if err != nil {
		return nil, fmt.Errorf("read the properties: %w", err)
	}
	list, err := answer.CapabilityData.Data.TPMProperties()
	if err != nil {
		return nil, err
	}
	properties := map[tpm2.TPMPT]uint32{}
	for _, p := range list.TPMProperty {
		properties[p.Property] = p.Value
	}
	return properties, nil
}

// endorsementKey gives the name of the endorsement key: of the persistent one, or made from its template.
func endorsementKey(c transport.TPM) (tpm2.TPM2BName, error) {
	if public, err := (tpm2.ReadPublic{ObjectHandle: ekHandle}).Execute(c); err == nil {
		return public.Name, nil
	}
	ek, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHEndorsement, InPublic: tpm2.New2B(tpm2.RSAEKTemplate)}.Execute(c)
	if err != nil {
		return tpm2.TPM2BName{}, fmt.Errorf("make the endorsement key: %w", err)
	}
	return ek.Name, flush(c, ek.ObjectHandle)
}

// readIndex reads an NV index whole; nil where there is none.
func readIndex(c transport.TPM, index tpm2.TPMHandle) ([]byte, error) {
	public, err := tpm2.NVReadPublic{NVIndex: index}.Execute(c)
	if err != nil {
		return nil, nil // not there: TPM_RC_HANDLE
	}
	contents, err := public.NVPublic.Contents()
	if err != nil {
		return nil, err
	}
	var data []byte
	for len(data) < int(contents.DataSize) {
		part, err := tpm2.NVRead{
			AuthHandle: tpm2.AuthHandle{Handle: index, Name: public.NVName, Auth: tpm2.PasswordAuth(nil)},
			NVIndex:    tpm2.NamedHandle{Handle: index, Name: public.NVName},
			Size:       uint16(min(512, int(contents.DataSize)-len(data))), Offset: uint16(len(data)),
		}.Execute(c)
		if err != nil {
			return nil, fmt.Errorf("read the NV index %#x: %w", index, err)
		}
		data = append(data, part.Data.Buffer...)
	}
	return data, nil
}

func flush(c transport.TPM, h tpm2.TPMHandle) error {
	if _, err := (tpm2.FlushContext{FlushHandle: h}).Execute(c); err != nil {
		return fmt.Errorf("flush %#x: %w", h, err)
	}
	return nil
}
