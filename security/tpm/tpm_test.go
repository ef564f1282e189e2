package tpm_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"biosv/internal/testbed"
	"biosv/internal/testtpm"
	"biosv/security/tpm"
)

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
	t.Parallel()
	p := testtpm.Open(t, testtpm.Folder(t))
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
	t.Parallel()
	p := testtpm.Open(t, testtpm.Folder(t))
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
	t.Parallel()
	p := testtpm.Open(t, testtpm.Folder(t))
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
	t.Parallel()
	dir := testtpm.Folder(t)
	p := testtpm.Open(t, dir)
	k := authorised(t, p, newSigner(t))
	about := p.Describe()
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if !about.Software || about.EKName == "" || len(about.EKCertificate) == 0 {
		t.Errorf("%+v", about)
	}
	p = testtpm.Open(t, dir)
	if p.Describe().EKName != about.EKName {
		t.Error("the endorsement key is another one now")
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	seen(t, dir, k)
}

// readPublic lets tpm2-tools read the issuing key of a TPM that was closed.
func readPublic(t *testing.T, tpm2 func(string, ...string) ([]byte, error)) *ecdsa.PublicKey {
	t.Helper()
	out := filepath.Join(t.TempDir(), "key.pem")
	if _, err := tpm2("tpm2_readpublic", "-c", "0x81000b10", "-f", "pem", "-o", out); err != nil {
		t.Fatal(err)
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

// seen looks at the closed TPM with others' eyes: the key is there, and nobody signs with it who lacks the policy.
func seen(t *testing.T, dir string, k *tpm.IssuingKey) {
	t.Helper()
	tpm2 := testbed.TPM2(t, dir)
	if got := readPublic(t, tpm2); !got.Equal(k.Public()) {
		t.Error("tpm2_readpublic sees another key at the issuing key's handle")
	}
	message, hash, ticket := filepath.Join(t.TempDir(), "m"), filepath.Join(t.TempDir(), "hash"), filepath.Join(t.TempDir(), "ticket")
	if err := os.WriteFile(message, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := tpm2("tpm2_hash", "-C", "o", "-g", "sha256", "-t", ticket, "-o", hash, message); err != nil {
		t.Fatal(err)
	}
	sign := func(auth ...string) error {
		_, err := tpm2("tpm2_sign", append([]string{"-c", "0x81000b10", "-g", "sha256", "-s", "ecdsa", "-d", "-t", ticket, "-o", message + ".sig"}, append(auth, hash)...)...)
		return err
	}
	refused := func(what string, err error, code string) {
		t.Helper()
		if err == nil || !strings.Contains(strings.ToLower(err.Error()), code) {
			t.Errorf("tpm2_sign %s: %v; want %s", what, err, code)
		}
	}
	refused("with the empty password", sign(), "0x12f") // TPM_RC_AUTH_UNAVAILABLE
	refused("with a password", sign("-p", "biosv"), "0x12f")
	// A policy session in which nothing was satisfied.
	session := filepath.Join(t.TempDir(), "session")
	if _, err := tpm2("tpm2_startauthsession", "--policy-session", "-S", session); err != nil {
		t.Fatal(err)
	}
	refused("without a policy", sign("-p", "session:"+session), "0x99d") // TPM_RC_POLICY_FAIL
}

func TestAStateThatIsGoneOrAnothersIsRefused(t *testing.T) {
	t.Parallel()
	dir, other := testtpm.Folder(t), filepath.Join(t.TempDir(), "tpm")
	if err := testtpm.Open(t, other).Close(); err != nil { // one that is set up here
		t.Fatal(err)
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

func TestAStateWithoutItsKeyIsRefused(t *testing.T) {
	t.Parallel()
	dir := testtpm.Folder(t)
	key := filepath.Join(dir, "state.key")
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	if p, err := tpm.Open(t.Context(), tpm.Source{Kind: tpm.Swtpm}, dir); err == nil || !strings.Contains(err.Error(), key) || !strings.Contains(err.Error(), "is gone") {
		if err == nil {
			p.Close()
		}
		t.Errorf("without its key: %v", err)
	}
	if _, err := os.Stat(key); err == nil {
		t.Error("another key was made in its place")
	}
	if err := os.WriteFile(key, []byte(strings.Repeat("0", 64)), 0o600); err != nil {
		t.Fatal(err)
	}
	if p, err := tpm.Open(t.Context(), tpm.Source{Kind: tpm.Swtpm}, dir); err == nil || !strings.Contains(err.Error(), "swtpm.log") {
		if err == nil {
			p.Close()
		}
		t.Errorf("with another key: %v", err)
	}
}

// What a process left that was killed while it set a TPM up is none: it is set up again, whole.
func TestATPMThatWasHalfSetUpIsSetUpAgain(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "tpm")
	half := filepath.Join(dir, "state.unfinished")
	if err := os.MkdirAll(half, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(half, "tpm2-00.permall"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "state.key"), []byte(strings.Repeat("0", 64)), 0o600); err != nil {
		t.Fatal(err)
	}
	if p := testtpm.Open(t, dir); len(p.Describe().EKCertificate) == 0 {
		t.Error("its endorsement key has no certificate")
	}
	if _, err := os.Stat(half); err == nil {
		t.Error("the half is still there")
	}
}

func TestAClosedTPMSaysSo(t *testing.T) {
	t.Parallel()
	p := testtpm.Open(t, testtpm.Folder(t))
	k := authorised(t, p, newSigner(t))
	for range 2 {
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := k.SignMessage(nil, []byte("x"), nil); !errors.Is(err, tpm.ErrClosed) {
		t.Errorf("a signature: %v", err)
	}
	if _, _, err := p.ReadPCR(t.Context(), pcr); !errors.Is(err, tpm.ErrClosed) {
		t.Errorf("a register: %v", err)
	}
}

// A swtpm that dies is an error that names its log, and not the end of the service or a hang.
func TestASwtpmThatDiesIsAnError(t *testing.T) {
	t.Parallel()
	dir := testtpm.Folder(t)
	p, err := tpm.Open(t.Context(), tpm.Source{Kind: tpm.Swtpm}, dir)
	if err != nil {
		t.Fatal(err)
	}
	signer := newSigner(t)
	k := authorised(t, p, signer)
	if err := syscall.Kill(process(t, dir), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := k.SignMessage(nil, []byte("x"), nil); err == nil || !strings.Contains(err.Error(), "does not answer") || !strings.Contains(err.Error(), "swtpm.log") {
			t.Errorf("a signature: %v", err)
		}
	}
	if err := p.Close(); err == nil {
		t.Error("it was shut down in order")
	}
	again := testtpm.Open(t, dir)
	reopened, err := again.OpenIssuingKey(t.Context(), &signer.PublicKey)
	if err != nil || !reopened.Public().(*ecdsa.PublicKey).Equal(k.Public()) {
		t.Errorf("started again: %v", err)
	}
}

// process finds the swtpm of a folder among the children of the test.
func process(t *testing.T, dir string) int {
	t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range lines {
		if text, err := os.ReadFile(path); err == nil && strings.HasPrefix(string(text), "swtpm\x00socket") && strings.Contains(string(text), dir) {
			pid, err := strconv.Atoi(strings.Split(path, "/")[2])
			if err != nil {
				t.Fatal(err)
			}
			return pid
		}
	}
	t.Fatal("there is no swtpm")
	return 0
}

func TestOneAtATime(t *testing.T) {
	t.Parallel()
	p := testtpm.Open(t, testtpm.Folder(t))
	k := authorised(t, p, newSigner(t))
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 5 {
				if signature, err := k.SignMessage(nil, []byte("x"), nil); err != nil {
					t.Error(err)
				} else {
					verify(t, k, []byte("x"), signature)
				}
				if _, _, err := p.ReadPCR(t.Context(), pcr); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := p.ReadPCR(ended, pcr); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
}

func TestSources(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]tpm.Source{
		"auto": {Kind: tpm.Auto}, "swtpm": {Kind: tpm.Swtpm}, "software": {Kind: tpm.Software}, "device:/dev/tpm0": {Kind: tpm.Device, Path: "/dev/tpm0"},
	} {
		if got, err := tpm.ParseSource(text); got != want || err != nil {
			t.Errorf("%s is %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "device", "device:", "hardware", "Swtpm", "swtpm:/x"} {
		if got, err := tpm.ParseSource(text); err == nil || !strings.Contains(err.Error(), "use auto, device:PATH, swtpm or software") {
			t.Errorf("%q is %+v, %v", text, got, err)
		}
	}
	missing := filepath.Join(t.TempDir(), "tpm0")
	if _, err := tpm.Open(t.Context(), tpm.Source{Kind: tpm.Device, Path: missing}, t.TempDir()); err == nil || !strings.Contains(err.Error(), missing) {
		t.Errorf("a device that is not there: %v", err)
	}
}
