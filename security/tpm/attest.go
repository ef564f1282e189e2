package tpm

import (
	"bytes"
	"context"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// Attestation is a statement of the TPM, signed by its attestation key.
type Attestation struct {
	KeyName   []byte // of the attestation key (Part 1, section 16)
	KeyPublic []byte // its TPMT_PUBLIC
	Statement []byte // TPMS_ATTEST
	Signature []byte // TPMT_SIGNATURE
}

// The attestation key is a primary key of the endorsement hierarchy, made anew from this template whenever it is
// needed: a TPM gives the same key for the same template as long as its endorsement seed stays, so there is nothing
// to keep. It is bound to no policy, so that a machine in a bad state can still say so.
func attestationTemplate() tpm2.TPMTPublic {
	return template(tpm2.TPMAObject{UserWithAuth: true}, nil)
}

// CertifyIssuingKey lets the attestation key say that the issuing key was made in this TPM, from the template that
// binds it to its policy (TPM2_CertifyCreation, Part 3, section 18.3). nonce is what the statement repeats.
func (t *TPM) CertifyIssuingKey(ctx context.Context, k *IssuingKey, nonce []byte) (a Attestation, err error) {
	err = t.do(ctx, func(c transport.TPM) error {
		a, err = k.certify(c, nonce)
		return err
	})
	if err != nil {
		return a, fmt.Errorf("certify the issuing key: %w", err)
	}
	return a, nil
}

func (k *IssuingKey) certify(c transport.TPM, nonce []byte) (a Attestation, err error) {
	ak, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHEndorsement, InPublic: tpm2.New2B(attestationTemplate())}.Execute(c)
	if err != nil {
		return a, fmt.Errorf("make the attestation key: %w", err)
	}
	defer func() {
		if e := flush(c, ak.ObjectHandle); err == nil {
			err = e
		}
	}()
	// Made again, the issuing key is the same key, and comes with a ticket for its creation.
	again, err := createPrimary(c, k.policy)
	if err != nil {
		return a, err
	}
	if err := flush(c, again.ObjectHandle); err != nil {
		return a, err
	}
	if !bytes.Equal(again.Name.Buffer, k.name.Buffer) {
		return a, fmt.Errorf("the key at %#x is not the one that this TPM makes from its template", IssuingHandle)
	}
	answer, err := tpm2.CertifyCreation{
		SignHandle:     tpm2.AuthHandle{Handle: ak.ObjectHandle, Name: ak.Name, Auth: tpm2.PasswordAuth(nil)},
		ObjectHandle:   tpm2.NamedHandle{Handle: IssuingHandle, Name: k.name},
		QualifyingData: tpm2.TPM2BData{Buffer: nonce},
		CreationHash:   again.CreationHash,
		InScheme:       tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
		CreationTicket: again.CreationTicket,
	}.Execute(c)
	if err != nil {
		return a, err
	}
	public, err := ak.OutPublic.Contents()
	if err != nil {
		return a, err
	}
	return Attestation{
		KeyName: ak.Name.Buffer, KeyPublic: tpm2.Marshal(public),
		Statement: answer.CertifyInfo.Bytes(), Signature: tpm2.Marshal(answer.Signature),
	}, nil
}
