package tpm

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"sync"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// IssuingHandle is the persistent handle of the issuing key: `tpm2_readpublic -c 0x81000b10` shows it.
const IssuingHandle = tpm2.TPMHandle(0x81000b10)

func ecdsaScheme() tpm2.TPMTECCScheme {
	return tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256})}
}

// template is a restricted P-256 signing key: it signs only what the TPM made, or hashed itself and found not to
// look like that (Part 1, section 25.2.4).
func template(attributes tpm2.TPMAObject, policy []byte) tpm2.TPMTPublic {
	attributes.FixedTPM, attributes.FixedParent, attributes.SensitiveDataOrigin = true, true, true
	attributes.Restricted, attributes.SignEncrypt, attributes.NoDA = true, true, true
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256, ObjectAttributes: attributes, AuthPolicy: tpm2.TPM2BDigest{Buffer: policy},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{Scheme: ecdsaScheme(), CurveID: tpm2.TPMECCNistP256}),
	}
}

// IssuingKey signs certificates in the TPM. It is a [crypto.MessageSigner]: it hashes what it signs itself. It is
// safe for concurrent use.
type IssuingKey struct {
	tpm    *TPM
	public *ecdsa.PublicKey
	name   tpm2.TPM2BName
	signer *ecdsa.PublicKey // of launch policies
	policy []byte           // its authPolicy

	mu          sync.Mutex
	approval    Approval
	counterName []byte
	digest      []byte
	ticket      *tpm2.TPMTTKVerified
}

// OpenIssuingKey opens the issuing key, which is made where there is none: a primary key of the owner's
// hierarchy, kept at [IssuingHandle], whose every use needs a policy that the signer approved.
func (t *TPM) OpenIssuingKey(ctx context.Context, signer *ecdsa.PublicKey) (*IssuingKey, error) {
	name, err := SignerName(signer)
	if err != nil {
		return nil, err
	}
	calculator, err := tpm2.NewPolicyCalculator(tpm2.TPMAlgSHA256)
	if err != nil {
		return nil, err
	}
	if err := (tpm2.PolicyAuthorize{PolicyRef: tpm2.TPM2BDigest{Buffer: policyRef[:]}, KeySign: name}).Update(calculator); err != nil {
		return nil, err
	}
	k := &IssuingKey{tpm: t, signer: signer, policy: calculator.Hash().Digest}
	if err := t.do(ctx, k.open); err != nil {
		return nil, fmt.Errorf("open the issuing key: %w", err)
	}
	return k, nil
}

func (k *IssuingKey) open(c transport.TPM) error {
	read, err := tpm2.ReadPublic{ObjectHandle: IssuingHandle}.Execute(c)
	if err != nil {
		if read, err = createIssuingKey(c, k.policy); err != nil {
			return err
		}
	}
	public, err := read.OutPublic.Contents()
	if err != nil {
		return err
	}
	if string(public.AuthPolicy.Buffer) != string(k.policy) || !public.ObjectAttributes.Restricted || public.ObjectAttributes.UserWithAuth {
		return fmt.Errorf("the key at %#x is not bound to this launch policy's signer", IssuingHandle)
	}
	k.name = read.Name
	k.public, err = ecdsaKey(public)
	return err
}

// createPrimary makes the issuing key as an object that is gone with the TPM's next reset.
func createPrimary(c transport.TPM, policy []byte) (*tpm2.CreatePrimaryResponse, error) {
	key, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(template(tpm2.TPMAObject{AdminWithPolicy: true}, policy))}.Execute(c)
	if err != nil {
		return nil, fmt.Errorf("make it: %w", err)
	}
	return key, nil
}

func createIssuingKey(c transport.TPM, policy []byte) (*tpm2.ReadPublicResponse, error) {
	key, err := createPrimary(c, policy)
	if err != nil {
		return nil, err
	}
	_, err = tpm2.EvictControl{
		Auth:             tpm2.TPMRHOwner,
		ObjectHandle:     &tpm2.NamedHandle{Handle: key.ObjectHandle, Name: key.Name},
		PersistentHandle: IssuingHandle,
	}.Execute(c)
	if e := flush(c, key.ObjectHandle); err == nil {
		err = e
	}
	if err != nil {
		return nil, fmt.Errorf("keep it: %w", err)
	}
	return tpm2.ReadPublic{ObjectHandle: IssuingHandle}.Execute(c)
}

func ecdsaKey(public *tpm2.TPMTPublic) (*ecdsa.PublicKey, error) {
	point, err := public.Unique.ECC()
	if err != nil {
		return nil, err
	}
	raw := make([]byte, 65)
	raw[0] = 4
	copy(raw[33-len(point.X.Buffer):33], point.X.Buffer)
	copy(raw[65-len(point.Y.Buffer):], point.Y.Buffer)
	return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), raw)
}

// Use says by which approval the key is used from now on.
func (k *IssuingKey) Use(a Approval, counterName []byte) error {
	digest, err := a.digest(counterName)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.approval, k.counterName, k.digest, k.ticket = a, counterName, digest, nil
	return nil
}

// Name is the key's name, which attestations are on (Part 1, section 16).
func (k *IssuingKey) Name() []byte { return k.name.Buffer }

// Public is the key's public part.
func (k *IssuingKey) Public() crypto.PublicKey { return k.public }

// Sign is not to be had: a restricted key signs no digest that came from outside.
func (k *IssuingKey) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("the issuing key signs messages, not digests")
}

// SignMessage hashes a message in the TPM and signs it: an ECDSA signature in ASN.1.
func (k *IssuingKey) SignMessage(_ io.Reader, message []byte, _ crypto.SignerOpts) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.digest == nil {
		return nil, errors.New("sign with the issuing key: no policy was named")
	}
	var signature []byte
	err := k.tpm.do(context.Background(), func(c transport.TPM) (err error) {
		signature, err = k.sign(c, message)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("sign with the issuing key: %w", err)
	}
	return signature, nil
}

func (k *IssuingKey) sign(c transport.TPM, message []byte) ([]byte, error) {
	if k.ticket == nil {
		ticket, err := verified(c, k.signer, k.digest, k.approval.Signature)
		if err != nil {
			return nil, err
		}
		k.ticket = &ticket
	}
	digest, check, err := hash(c, message)
	if err != nil {
		return nil, err
	}
	session, end, err := tpm2.PolicySession(c, tpm2.TPMAlgSHA256, 16)
	if err != nil {
		return nil, fmt.Errorf("begin a session: %w", err)
	}
	answer, err := k.signIn(c, session, digest, check)
	if e := end(); err == nil {
		err = e
	}
	if err != nil {
		return nil, err
	}
	ecc, err := answer.Signature.Signature.ECDSA()
	if err != nil {
		return nil, err
	}
	r, s := asn1Signature(ecc)
	return asn1.Marshal(struct{ R, S *big.Int }{r, s})
}

// signIn satisfies the policy step by step and signs (Part 1, section 19.7).
func (k *IssuingKey) signIn(c transport.TPM, session tpm2.Session, digest tpm2.TPM2BDigest, check tpm2.TPMTTKHashCheck) (*tpm2.SignResponse, error) {
	value := k.approval.Policy
	counter := tpm2.TPM2BName{Buffer: k.counterName}
	if _, err := (tpm2.PolicyPCR{PolicySession: session.Handle(), Pcrs: selection(value.PCR)}).Execute(c); err != nil {
		return nil, err
	}
	if _, err := (tpm2.PolicyNV{
		AuthHandle:    tpm2.AuthHandle{Handle: counterIndex, Name: counter, Auth: tpm2.PasswordAuth(nil)},
		NVIndex:       tpm2.NamedHandle{Handle: counterIndex, Name: counter},
		PolicySession: session.Handle(), OperandB: value.operand(), Operation: tpm2.TPMEOUnsignedLE,
	}).Execute(c); err != nil {
		return nil, refusal(err)
	}
	if _, err := (tpm2.PolicyCommandCode{PolicySession: session.Handle(), Code: tpm2.TPMCCSign}).Execute(c); err != nil {
		return nil, err
	}
	name, err := SignerName(k.signer)
	if err != nil {
		return nil, err
	}
	if _, err := (tpm2.PolicyAuthorize{
		PolicySession: session.Handle(), ApprovedPolicy: tpm2.TPM2BDigest{Buffer: k.digest}, PolicyRef: tpm2.TPM2BDigest{Buffer: policyRef[:]},
		KeySign: name, CheckTicket: *k.ticket,
	}).Execute(c); err != nil {
		return nil, refusal(err)
	}
	answer, err := tpm2.Sign{
		KeyHandle:  tpm2.AuthHandle{Handle: IssuingHandle, Name: k.name, Auth: session},
		Digest:     digest,
		InScheme:   tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUSigScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSchemeHash{HashAlg: tpm2.TPMAlgSHA256})},
		Validation: check,
	}.Execute(c)
	return answer, refusal(err)
}

const mostHashed = 1024

// hash lets the TPM hash a message, for the ticket that a restricted key asks for (Part 3, sections 15.4, 17.4).
func hash(c transport.TPM, message []byte) (tpm2.TPM2BDigest, tpm2.TPMTTKHashCheck, error) {
	if len(message) <= mostHashed {
		answer, err := tpm2.Hash{Data: tpm2.TPM2BMaxBuffer{Buffer: message}, HashAlg: tpm2.TPMAlgSHA256, Hierarchy: tpm2.TPMRHOwner}.Execute(c)
		if err != nil {
			return tpm2.TPM2BDigest{}, tpm2.TPMTTKHashCheck{}, fmt.Errorf("hash: %w", err)
		}
		return answer.OutHash, answer.Validation, nil
	}
	start, err := tpm2.HashSequenceStart{HashAlg: tpm2.TPMAlgSHA256}.Execute(c)
	if err != nil {
		return tpm2.TPM2BDigest{}, tpm2.TPMTTKHashCheck{}, fmt.Errorf("begin to hash: %w", err)
	}
	sequence := tpm2.AuthHandle{Handle: start.SequenceHandle, Name: tpm2.TPM2BName{}, Auth: tpm2.PasswordAuth(nil)}
	for ; len(message) > mostHashed; message = message[mostHashed:] {
		if _, err := (tpm2.SequenceUpdate{SequenceHandle: sequence, Buffer: tpm2.TPM2BMaxBuffer{Buffer: message[:mostHashed]}}).Execute(c); err != nil {
			return tpm2.TPM2BDigest{}, tpm2.TPMTTKHashCheck{}, errors.Join(fmt.Errorf("hash on: %w", err), flush(c, start.SequenceHandle))
		}
	}
	answer, err := tpm2.SequenceComplete{SequenceHandle: sequence, Buffer: tpm2.TPM2BMaxBuffer{Buffer: message}, Hierarchy: tpm2.TPMRHOwner}.Execute(c)
	if err != nil {
		return tpm2.TPM2BDigest{}, tpm2.TPMTTKHashCheck{}, errors.Join(fmt.Errorf("end to hash: %w", err), flush(c, start.SequenceHandle))
	}
	return answer.Result, answer.Validation, nil
}
