package tpm_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"biosv/security/tpm"
)

func open(t *testing.T, dir string) *tpm.TPM {
	t.Helper()
	s, err := tpm.ParseSource("swtpm")
	if err != nil {
		t.Fatal(err)
	}
	p, err := tpm.Open(t.Context(), s, dir)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func newSigner(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

const pcr = 15

// authorised gives an issuing key that is authorised for the register as it is.
func authorised(t *testing.T, p *tpm.TPM, signer *ecdsa.PrivateKey) *tpm.IssuingKey {
	t.Helper()
	k, err := p.OpenIssuingKey(t.Context(), &signer.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	use(t, p, k, signer)
	return k
}

func use(t *testing.T, p *tpm.TPM, k *tpm.IssuingKey, signer *ecdsa.PrivateKey) {
	t.Helper()
	value, _, err := p.ReadPCR(t.Context(), pcr)
	if err != nil {
		t.Fatal(err)
	}
	counter, name, err := p.Counter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	a, err := tpm.Approve(tpm.Policy{PCR: pcr, Value: value, Counter: counter}, name, signer)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Use(a, name); err != nil {
		t.Fatal(err)
	}
}

func verify(t *testing.T, k *tpm.IssuingKey, message, signature []byte) {
	t.Helper()
	sum := sha256.Sum256(message)
	if !ecdsa.VerifyASN1(k.Public().(*ecdsa.PublicKey), sum[:], signature) {
		t.Error("the signature is not the issuing key's")
	}
}

func TestIssuingKeySignsUnderItsPolicyOnly(t *testing.T) {
	p := open(t, t.TempDir())
	defer p.Close()
	signer := newSigner(t)
	k := authorised(t, p, signer)
	for _, n := range []int{1, 1024, 1025, 5000} {
		message := bytes.Repeat([]byte("x"), n)
		signature, err := k.SignMessage(nil, message, nil)
		if err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		verify(t, k, message, signature)
	}
	before := k.Public().(*ecdsa.PublicKey)
	if err := p.ExtendPCR(t.Context(), pcr, tpm.Digest{1}); err != nil {
		t.Fatal(err)
	}
	if _, err := k.SignMessage(nil, []byte("x"), nil); !errors.Is(err, tpm.ErrPolicy) {
		t.Errorf("after the register changed: %v", err)
	}
	use(t, p, k, signer)
	signature, err := k.SignMessage(nil, []byte("y"), nil)
	if err != nil {
		t.Fatalf("with a policy for the new value: %v", err)
	}
	verify(t, k, []byte("y"), signature)
	again, err := p.OpenIssuingKey(t.Context(), &signer.PublicKey)
	if err != nil || !again.Public().(*ecdsa.PublicKey).Equal(before) {
		t.Errorf("it is another key now: %v", err)
	}
	if err := p.Revoke(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := k.SignMessage(nil, []byte("x"), nil); !errors.Is(err, tpm.ErrRevoked) {
		t.Errorf("after the policy was revoked: %v", err)
	}
}

func TestIssuingKeyRefusesAForgedApproval(t *testing.T) {
	p := open(t, t.TempDir())
	defer p.Close()
	signer := newSigner(t)
	k := authorised(t, p, signer)
	use(t, p, k, newSigner(t))
	if _, err := k.SignMessage(nil, []byte("x"), nil); !errors.Is(err, tpm.ErrForged) {
		t.Errorf("an approval of another signer: %v", err)
	}
	if _, err := p.OpenIssuingKey(t.Context(), &newSigner(t).PublicKey); err == nil {
		t.Error("the key was opened for another signer")
	}
}

// A restricted key signs nothing that looks like what a TPM attests (TPM_GENERATED_VALUE, Part 2, section 6.2).
func TestIssuingKeySignsNoForgedAttestation(t *testing.T) {
	p := open(t, t.TempDir())
	defer p.Close()
	k := authorised(t, p, newSigner(t))
	for _, n := range []int{100, 2000} {
		message := append([]byte("\xffTCG"), make([]byte, n)...)
		if _, err := k.SignMessage(nil, message, nil); err == nil {
			t.Errorf("%d bytes that begin like an attestation were signed", n)
		}
	}
	if _, err := k.Sign(nil, make([]byte, 32), nil); err == nil {
		t.Error("a digest from outside was signed")
	}
}

func TestTheSameFolderIsTheSameTPM(t *testing.T) {
	dir := t.TempDir()
	p := open(t, dir)
	k := authorised(t, p, newSigner(t))
	about := p.Describe()
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if !about.Software || about.EKName == "" || len(about.EKCertificate) == 0 {
		t.Errorf("%+v", about)
	}
	if got := readPublic(t, dir); !got.Equal(k.Public()) {
		t.Error("tpm2_readpublic sees another key at the issuing key's handle")
	}
	p = open(t, dir)
	defer p.Close()
	if p.Describe().EKName != about.EKName {
		t.Error("the endorsement key is another one now")
	}
}

// readPublic starts the stopped TPM's state under a swtpm of its own and lets tpm2-tools read the issuing key.
func readPublic(t *testing.T, dir string) *ecdsa.PublicKey {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	cmd := exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+filepath.Join(dir, "state"), "--key", "file="+filepath.Join(dir, "state.key")+",mode=aes-256-cbc,format=hex",
		"--server", "type=unixio,path="+socket, "--ctrl", "type=unixio,path="+socket+".ctrl", "--flags", "not-need-init,startup-clear")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	for {
		if _, err := os.Stat(socket + ".ctrl"); err == nil {
			break
		}
		if t.Context().Err() != nil {
			t.Fatal("swtpm does not start")
		}
	}
	out := filepath.Join(t.TempDir(), "key.pem")
	read := exec.Command("tpm2_readpublic", "-T", "swtpm:path="+socket, "-c", "0x81000b10", "-f", "pem", "-o", out)
	if text, err := read.CombinedOutput(); err != nil {
		t.Fatalf("tpm2_readpublic: %v\n%s", err, text)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key.(*ecdsa.PublicKey)
}

func TestAStateThatIsGoneOrAnothersIsRefused(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	for _, d := range []string{dir, other} {
		if err := open(t, d).Close(); err != nil {
			t.Fatal(err)
		}
	}
	source, _ := tpm.ParseSource("swtpm")
	state := filepath.Join(dir, "state", "tpm2-00.permall")
	theirs, err := os.ReadFile(filepath.Join(other, "state", "tpm2-00.permall"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(filepath.Join(other, "state.key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(state, theirs, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "state.key"), key, 0o600); err != nil {
		t.Fatal(err)
	}
	if p, err := tpm.Open(t.Context(), source, dir); !errors.Is(err, tpm.ErrOther) {
		if err == nil {
			p.Close()
		}
		t.Errorf("another's state: %v", err)
	}
	if err := os.Remove(state); err != nil {
		t.Fatal(err)
	}
	if _, err := tpm.Open(t.Context(), source, dir); err == nil {
		t.Error("a state that is gone became a new TPM")
	}
}
