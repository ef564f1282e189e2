package tpm

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// The refusals of a TPM that callers tell apart.
var (
	ErrPolicy  = errors.New("the TPM refuses: the registers are not as the policy says")
	ErrRevoked = errors.New("the TPM refuses: the policy was revoked")
	ErrForged  = errors.New("the TPM refuses: the policy is not signed by the launch policy's signer")
)

// counterIndex is the NV counter that revokes policies: one whose Counter is less than its value is no longer
// taken. It is in the range of the owner (TCG Registry of Reserved TPM 2.0 Handles, section 2.2.2).
const counterIndex = tpm2.TPMHandle(0x01800b10)

// policyRef names what approvals are for: an approval for another purpose by the same signer is none here.
var policyRef = sha256.Sum256([]byte("biosv launch policy 1"))

// Policy says in which state of the machine the issuing key may be used: one register's value, and that the
// revocation counter has not passed. The only command that it allows is TPM2_Sign.
type Policy struct {
	PCR     uint
	Value   Digest
	Counter uint64
}

// Approval is a policy that a signer approved (TPM2_PolicyAuthorize, Part 3, section 23.16).
type Approval struct {
	Policy
	Signature []byte // r and s, 32 bytes each
}

// Approve signs a policy. counterName is [TPM.Counter]'s.
func Approve(p Policy, counterName []byte, signer *ecdsa.PrivateKey) (Approval, error) {
	digest, err := p.digest(counterName)
	if err != nil {
		return Approval{}, err
	}
	hash := approvalHash(digest)
	r, s, err := ecdsa.Sign(rand.Reader, signer, hash[:])
	if err != nil {
		return Approval{}, fmt.Errorf("sign the policy: %w", err)
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return Approval{p, signature}, nil
}

// approvalHash is what a signer signs: aHash of TPM2_PolicyAuthorize.
func approvalHash(policy []byte) Digest {
	return sha256.Sum256(append(append([]byte(nil), policy...), policyRef[:]...))
}

// digest is the policy's as a session would have it after its commands.
func (p Policy) digest(counterName []byte) ([]byte, error) {
	calculator, err := tpm2.NewPolicyCalculator(tpm2.TPMAlgSHA256)
	if err != nil {
		return nil, err
	}
	value := sha256.Sum256(p.Value[:])
	counter := tpm2.NamedHandle{Handle: counterIndex, Name: tpm2.TPM2BName{Buffer: counterName}}
	for _, step := range []interface {
		Update(*tpm2.PolicyCalculator) error
	}{
		tpm2.PolicyPCR{Pcrs: selection(p.PCR), PcrDigest: tpm2.TPM2BDigest{Buffer: value[:]}},
		tpm2.PolicyNV{AuthHandle: counter, NVIndex: counter, OperandB: p.operand(), Operation: tpm2.TPMEOUnsignedLE},
		tpm2.PolicyCommandCode{Code: tpm2.TPMCCSign},
	} {
		if err := step.Update(calculator); err != nil {
			return nil, fmt.Errorf("calculate the policy: %w", err)
		}
	}
	return calculator.Hash().Digest, nil
}

func (p Policy) operand() tpm2.TPM2BOperand {
	return tpm2.TPM2BOperand{Buffer: binary.BigEndian.AppendUint64(nil, p.Counter)}
}

// Digest is the approved policy's digest.
func (a Approval) Digest(counterName []byte) ([]byte, error) { return a.digest(counterName) }

// Counter reads the revocation counter and its name; it is made where there is none.
func (t *TPM) Counter(ctx context.Context) (value uint64, name []byte, err error) {
	err = t.do(ctx, func(c transport.TPM) error {
		public, err := tpm2.NVReadPublic{NVIndex: counterIndex}.Execute(c)
		if err != nil {
			if public, err = defineCounter(c); err != nil {
				return fmt.Errorf("make the revocation counter: %w", err)
			}
		}
		raw, err := readIndex(c, counterIndex)
		if err != nil || len(raw) != 8 {
			return fmt.Errorf("read the revocation counter: %w", err)
		}
		value, name = binary.BigEndian.Uint64(raw), public.NVName.Buffer
		return nil
	})
	return value, name, err
}

// defineCounter makes the counter and counts once, since one that was never written cannot be read.
func defineCounter(c transport.TPM) (*tpm2.NVReadPublicResponse, error) {
	_, err := tpm2.NVDefineSpace{
		AuthHandle: tpm2.TPMRHOwner,
		PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{
			NVIndex: counterIndex, NameAlg: tpm2.TPMAlgSHA256, DataSize: 8,
			Attributes: tpm2.TPMANV{OwnerWrite: true, AuthRead: true, OwnerRead: true, NoDA: true, NT: tpm2.TPMNTCounter},
		}),
	}.Execute(c)
	if err != nil {
		return nil, err
	}
	if err := increment(c); err != nil {
		return nil, err
	}
	return tpm2.NVReadPublic{NVIndex: counterIndex}.Execute(c)
}

func increment(c transport.TPM) error {
	public, err := tpm2.NVReadPublic{NVIndex: counterIndex}.Execute(c)
	if err != nil {
		return err
	}
	_, err = tpm2.NVIncrement{
		AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
		NVIndex:    tpm2.NamedHandle{Handle: counterIndex, Name: public.NVName},
	}.Execute(c)
	return err
}

// Revoke takes every policy back whose Counter is not greater than the counter's value now.
func (t *TPM) Revoke(ctx context.Context) error {
	return t.do(ctx, func(c transport.TPM) error {
		if err := increment(c); err != nil {
			return fmt.Errorf("count the revocation: %w", err)
		}
		return nil
	})
}

// signerPublic is the signer's key as a TPM loads it (TPM2_LoadExternal, Part 3, section 12.3).
func signerPublic(key *ecdsa.PublicKey) tpm2.TPMTPublic {
	x, y := make([]byte, 32), make([]byte, 32)
	raw, _ := key.Bytes() // a P-256 key of ours: it was checked when it was read
	copy(x, raw[1:33])
	copy(y, raw[33:])
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{SignEncrypt: true, UserWithAuth: true},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
			Scheme:  tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256})},
			CurveID: tpm2.TPMECCNistP256,
		}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{X: tpm2.TPM2BECCParameter{Buffer: x}, Y: tpm2.TPM2BECCParameter{Buffer: y}}),
	}
}

// SignerName is the name of the signer's key, which the issuing key's policy names.
func SignerName(key *ecdsa.PublicKey) (tpm2.TPM2BName, error) {
	if key.Curve != elliptic.P256() {
		return tpm2.TPM2BName{}, errors.New("the launch policy's signer must have a P-256 key")
	}
	public := signerPublic(key)
	name, err := tpm2.ObjectName(&public)
	if err != nil {
		return tpm2.TPM2BName{}, err
	}
	return *name, nil
}

// verified lets the TPM check an approval's signature; its ticket outlives restarts of the TPM.
func verified(c transport.TPM, key *ecdsa.PublicKey, policy []byte, signature []byte) (tpm2.TPMTTKVerified, error) {
	var none tpm2.TPMTTKVerified
	if len(signature) != 64 {
		return none, ErrForged
	}
	loaded, err := tpm2.LoadExternal{InPublic: tpm2.New2B(signerPublic(key)), Hierarchy: tpm2.TPMRHOwner}.Execute(c)
	if err != nil {
		return none, fmt.Errorf("load the signer's key: %w", err)
	}
	hash := approvalHash(policy)
	ticket, err := tpm2.VerifySignature{
		KeyHandle: loaded.ObjectHandle,
		Digest:    tpm2.TPM2BDigest{Buffer: hash[:]},
		Signature: tpm2.TPMTSignature{SigAlg: tpm2.TPMAlgECDSA, Signature: tpm2.NewTPMUSignature(tpm2.TPMAlgECDSA, &tpm2.TPMSSignatureECC{
			Hash:       tpm2.TPMAlgSHA256,
			SignatureR: tpm2.TPM2BECCParameter{Buffer: signature[:32]}, SignatureS: tpm2.TPM2BECCParameter{Buffer: signature[32:]},
		})},
	}.Execute(c)
	if e := flush(c, loaded.ObjectHandle); e != nil {
		return none, e
	}
	if err != nil {
		return none, fmt.Errorf("%w: %v", ErrForged, err)
	}
	return ticket.Validation, nil
}

// refusal tells a TPM's refusals apart.
func refusal(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, tpm2.TPMRCValue), errors.Is(err, tpm2.TPMRCPolicyFail), errors.Is(err, tpm2.TPMRCPCRChanged):
		return fmt.Errorf("%w (%v)", ErrPolicy, err)
	case errors.Is(err, tpm2.TPMRCPolicy):
		return fmt.Errorf("%w (%v)", ErrRevoked, err)
	}
	return err
}

func asn1Signature(s *tpm2.TPMSSignatureECC) (r, t *big.Int) {
	return new(big.Int).SetBytes(s.SignatureR.Buffer), new(big.Int).SetBytes(s.SignatureS.Buffer)
}
