package tpm

import (
	"context"
	"crypto/sha256"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// Digest is a SHA-256.
type Digest = [sha256.Size]byte

// ReadPCR reads a register of the SHA-256 bank (Part 3, section 22.4), and how often the TPM was reset: the
// register begins anew with every reset.
func (t *TPM) ReadPCR(ctx context.Context, index uint) (value Digest, resets uint32, err error) {
	err = t.do(ctx, func(c transport.TPM) error {
		value, err = readPCR(c, index)
		if err != nil {
			return err
		}
		clock, err := tpm2.ReadClock{}.Execute(c)
		if err != nil {
			return fmt.Errorf("read the clock: %w", err)
		}
		resets = clock.CurrentTime.ClockInfo.ResetCount
		return nil
	})
	return value, resets, err
}

func readPCR(c transport.TPM, index uint) (value Digest, err error) {
	answer, err := tpm2.PCRRead{PCRSelectionIn: selection(index)}.Execute(c)
	if err != nil {
		return value, fmt.Errorf("read PCR %d: %w", index, err)
	}
	if len(answer.PCRValues.Digests) != 1 || len(answer.PCRValues.Digests[0].Buffer) != len(value) {
		return value, fmt.Errorf("read PCR %d: the TPM has no SHA-256 bank", index)
	}
	return Digest(answer.PCRValues.Digests[0].Buffer), nil
}

// ExtendPCR extends a register (Part 3, section 22.2).
func (t *TPM) ExtendPCR(ctx context.Context, index uint, digest Digest) error {
	return t.do(ctx, func(c transport.TPM) error {
		_, err := tpm2.PCRExtend{
			PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(index), Auth: tpm2.PasswordAuth(nil)},
			Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: digest[:]}}},
		}.Execute(c)
		if err != nil {
			return fmt.Errorf("extend PCR %d: %w", index, err)
		}
		return nil
	})
}

// Extend is what extending does to a register's value.
func Extend(value, digest Digest) Digest {
	return sha256.Sum256(append(append([]byte(nil), value[:]...), digest[:]...))
}

func selection(index uint) tpm2.TPMLPCRSelection {
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(index)}}}
}
