package tpm_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"math/big"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"biosv/internal/testtpm"
	"biosv/security/tpm"
)

// A verifier that knows nothing of package tpm: it reads the structures of the specification with go-tpm.
func checkAttestation(t *testing.T, a tpm.Attestation, nonce []byte) *tpm2.TPMSCreationInfo {
	t.Helper()
	public, err := tpm2.Unmarshal[tpm2.TPMTPublic](a.KeyPublic)
	if err != nil {
		t.Fatal(err)
	}
	if o := public.ObjectAttributes; !o.Restricted || !o.SignEncrypt || o.Decrypt || !o.FixedTPM || !o.FixedParent || !o.SensitiveDataOrigin {
		t.Errorf("the attestation key's attributes are %+v", o)
	}
	if name, err := tpm2.ObjectName(public); err != nil || !bytes.Equal(name.Buffer, a.KeyName) {
		t.Errorf("the attestation key's name is not that of its public area: %v", err)
	}
	point, err := public.Unique.ECC()
	if err != nil {
		t.Fatal(err)
	}
	signature, err := tpm2.Unmarshal[tpm2.TPMTSignature](a.Signature)
	if err != nil {
		t.Fatal(err)
	}
	rs, err := signature.Signature.ECDSA()
	if err != nil {
		t.Fatal(err)
	}
	number := func(b []byte) *big.Int { return new(big.Int).SetBytes(b) }
	raw := make([]byte, 65)
	raw[0] = 4
	number(point.X.Buffer).FillBytes(raw[1:33])
	number(point.Y.Buffer).FillBytes(raw[33:])
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), raw)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(a.Statement)
	if !ecdsa.Verify(key, digest[:], number(rs.SignatureR.Buffer), number(rs.SignatureS.Buffer)) {
		t.Error("the statement is not signed by the attestation key")
	}
	statement, err := tpm2.Unmarshal[tpm2.TPMSAttest](a.Statement)
	if err != nil {
		t.Fatal(err)
	}
	if err := statement.Magic.Check(); err != nil {
		t.Error(err)
	}
	if statement.Type != tpm2.TPMSTAttestCreation || !bytes.Equal(statement.ExtraData.Buffer, nonce) {
		t.Errorf("the statement is of type %#x and repeats %x", statement.Type, statement.ExtraData.Buffer)
	}
	info, err := statement.Attested.Creation()
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func TestTheAttestationKeySaysThatTheIssuingKeyWasMadeHere(t *testing.T) {
	t.Parallel()
	dir := testtpm.Folder(t)
	p := testtpm.Open(t, dir)
	signer := newSigner(t)
	k := authorised(t, p, signer)
	nonce := []byte("a nonce")
	first, err := p.CertifyIssuingKey(t.Context(), k, nonce)
	if err != nil {
		t.Fatal(err)
	}
	if name := checkAttestation(t, first, nonce).ObjectName.Buffer; !bytes.Equal(name, k.Name()) {
		t.Errorf("the statement is on %x, and the issuing key is %x", name, k.Name())
	}
	if _, err := k.SignMessage(nil, []byte("still"), nil); err != nil {
		t.Errorf("after it was certified: %v", err)
	}
	// A bad state can be reported: the attestation key needs no policy.
	if err := p.ExtendPCR(t.Context(), pcr, tpm.Digest{1}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.CertifyIssuingKey(t.Context(), k, nonce); err != nil {
		t.Errorf("in a state that the policy does not name: %v", err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	p = testtpm.Open(t, dir)
	k, err = p.OpenIssuingKey(t.Context(), &signer.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	again, err := p.CertifyIssuingKey(t.Context(), k, nonce)
	if err != nil {
		t.Fatal(err)
	}
	checkAttestation(t, again, nonce)
	if !bytes.Equal(again.KeyName, first.KeyName) {
		t.Error("after a restart it is another attestation key")
	}
}
