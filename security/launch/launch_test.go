package launch_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"biosv/internal/testtpm"
	"biosv/security/launch"
	"biosv/security/tpm"
)

// bench is a launch policy with a TPM, which can be started again.
type bench struct {
	*testing.T
	dir, tpmDir string
	tpm         *tpm.TPM
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{T: t, dir: filepath.Join(t.TempDir(), "launch"), tpmDir: testtpm.Folder(t)}
	b.boot()
	return b
}

// boot starts the TPM again, which resets its registers.
func (b *bench) boot() {
	b.Helper()
	if b.tpm != nil {
		if err := b.tpm.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.tpm = testtpm.Open(b, b.tpmDir)
}

// open opens the launch policy, as each start of a service does.
func (b *bench) open() *launch.Launch {
	b.Helper()
	l, err := launch.Open(b.dir)
	if err != nil {
		b.Fatal(err)
	}
	return l
}

func (b *bench) measure(events []launch.Event) launch.State {
	b.Helper()
	s, err := b.open().Measure(b.Context(), b.tpm, events)
	if err != nil {
		b.Fatal(err)
	}
	return s
}

func (b *bench) pcr() tpm.Digest {
	b.Helper()
	value, _, err := b.tpm.ReadPCR(b.Context(), launch.Register)
	if err != nil {
		b.Fatal(err)
	}
	return value
}

// start measures a start and gives its approval.
func (b *bench) start(events []launch.Event) error {
	b.Helper()
	_, err := b.open().Approval(b.measure(events))
	return err
}

// signs says whether the issuing key signs under the approval of a start.
func (b *bench) signs(events []launch.Event) error {
	b.Helper()
	s := b.measure(events)
	l := b.open()
	a, err := l.Approval(s)
	if err != nil {
		return err
	}
	k, err := b.tpm.OpenIssuingKey(b.Context(), l.Signer())
	if err != nil {
		return err
	}
	if err := k.Use(a, s.CounterName); err != nil {
		return err
	}
	_, err = k.SignMessage(nil, []byte("message"), nil)
	return err
}

func (b *bench) authorize(events []launch.Event) bool {
	b.Helper()
	changed, err := b.open().Authorize(events)
	if err != nil {
		b.Fatal(err)
	}
	return changed
}

// first is a folder whose first start, of the program one, was approved.
func first(t *testing.T) *bench {
	t.Helper()
	b := newBench(t)
	s := b.measure(one)
	if err := b.open().Provision(s); err != nil {
		t.Fatal(err)
	}
	return b
}

var (
	one   = launch.Expected(tpm.Digest{1}, []byte("settings"))
	two   = launch.Expected(tpm.Digest{2}, []byte("settings"))
	other = launch.Expected(tpm.Digest{1}, []byte("other settings"))
)

// after is what extending by events makes of a register.
func after(value tpm.Digest, events ...launch.Event) tpm.Digest {
	for _, e := range events {
		value = sha256.Sum256(append(value[:], e.Digest[:]...))
	}
	return value
}

func TestAStartIsProgramSettingsAndSeparator(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	s := b.measure(one)
	if len(s.Events) != 3 || s.Events[0].Name != "program" || s.Events[1].Name != "settings" || s.Events[2].Name != "separator" {
		t.Errorf("the events are %+v", s.Events)
	}
	if tpm.Digest(s.Events[0].Digest) != (tpm.Digest{1}) || tpm.Digest(s.Events[1].Digest) != sha256.Sum256([]byte("settings")) || tpm.Digest(s.Events[2].Digest) != sha256.Sum256(make([]byte, 4)) {
		t.Errorf("the digests are %+v", s.Events)
	}
	if want := after(tpm.Digest{}, one...); s.Value != want || b.pcr() != want {
		t.Errorf("the register is %x, said to be %x; want %x", b.pcr(), s.Value, want)
	}
}

func TestTheProgramIsMeasuredAsItIs(t *testing.T) {
	t.Parallel()
	got, err := launch.Program()
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	if want := sha256.Sum256(content); got != want {
		t.Errorf("it is %x; want %x", got, want)
	}
}

func TestAStartIsMeasuredOnceForEachResetOfTheTPM(t *testing.T) {
	t.Parallel()
	b := first(t)
	value := b.pcr()
	for range 3 {
		if s := b.measure(one); b.pcr() != value || s.Value != value || len(s.Events) != 3 {
			t.Errorf("a process that starts again on the same TPM makes the register %x with %d events", b.pcr(), len(s.Events))
		}
		if err := b.signs(one); err != nil {
			t.Error(err)
		}
	}
	for range 2 {
		b.boot()
		if b.pcr() != (tpm.Digest{}) {
			t.Fatalf("after a reset the register is %x", b.pcr())
		}
		if err := b.signs(one); err != nil || b.pcr() != value {
			t.Errorf("after a reset: %v; the register is %x", err, b.pcr())
		}
	}
}

// The log is written before the register is extended: wherever a process ends, the next one completes what it began.
func TestAProcessThatEndedInTheMiddleIsCompleted(t *testing.T) {
	t.Parallel()
	b := first(t)
	want := after(tpm.Digest{}, one...)
	for done := range len(one) + 1 {
		b.boot()
		if err := os.Remove(filepath.Join(b.dir, "measurements.json")); err != nil {
			t.Fatal(err)
		}
		b.interrupted(one, done)
		if err := b.signs(one); err != nil || b.pcr() != want {
			t.Errorf("after %d measurements: %v; the register is %x", done, err, b.pcr())
		}
	}
	// Another program than the one that was interrupted is measured behind it, and is not authorised for that.
	b.boot()
	b.interrupted(two, 1)
	if err := b.start(one); !errors.Is(err, launch.ErrNotAuthorised) {
		t.Errorf("behind another program: %v", err)
	}
	if got := b.pcr(); got != after(after(tpm.Digest{}, two...), one...) {
		t.Errorf("behind another program the register is %x", got)
	}
	if !b.authorize(one) || b.signs(one) != nil {
		t.Errorf("when that was authorised: %v", b.signs(one))
	}
}

// interrupted leaves a log and a register as a process does that ended after so many of its measurements.
func (b *bench) interrupted(events []launch.Event, done int) {
	b.Helper()
	value, resets, err := b.tpm.ReadPCR(b.Context(), launch.Register)
	if err != nil {
		b.Fatal(err)
	}
	text, err := json.Marshal(map[string]any{"Resets": resets, "Base": hex.EncodeToString(value[:]), "Events": events})
	if err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(b.dir, "measurements.json"), text, 0o600); err != nil {
		b.Fatal(err)
	}
	for _, e := range events[:done] {
		if err := b.tpm.ExtendPCR(b.Context(), launch.Register, tpm.Digest(e.Digest)); err != nil {
			b.Fatal(err)
		}
	}
}

func TestAnotherProgramOrOtherSettingsAreRefusedUntilAuthorised(t *testing.T) {
	t.Parallel()
	for name, changed := range map[string][]launch.Event{"another program": two, "other settings": other} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := first(t)
			if err := b.start(changed); !errors.Is(err, launch.ErrNotAuthorised) || !strings.Contains(err.Error(), "biosv launch authorize") {
				t.Errorf("on the TPM that goes on: %v", err)
			}
			b.boot()
			if err := b.start(changed); !errors.Is(err, launch.ErrNotAuthorised) {
				t.Errorf("after a reset: %v", err)
			}
			if !b.authorize(changed) || b.open().Version() != 2 {
				t.Errorf("authorize changed nothing; the version is %d", b.open().Version())
			}
			if b.authorize(changed) || b.open().Version() != 2 {
				t.Errorf("authorized again; the version is %d", b.open().Version())
			}
			if err := b.signs(changed); err != nil {
				t.Errorf("authorised, on the TPM that goes on: %v", err)
			}
			b.boot()
			if err := b.signs(changed); err != nil {
				t.Errorf("authorised, after a reset: %v", err)
			}
			b.boot()
			if err := b.signs(one); err != nil {
				t.Errorf("the one before: %v", err)
			}
		})
	}
}

// The new program is authorised while the old one runs, and takes its place without a reset.
func TestAnUpgradeOnATPMThatGoesOn(t *testing.T) {
	t.Parallel()
	b := first(t)
	if !b.authorize(two) {
		t.Error("authorize changed nothing")
	}
	if err := b.signs(two); err != nil {
		t.Errorf("the new one: %v", err)
	}
	if err := b.start(one); !errors.Is(err, launch.ErrNotAuthorised) {
		t.Errorf("the old one behind the new one: %v", err)
	}
	b.boot()
	if err := errors.Join(b.signs(two)); err != nil {
		t.Errorf("the new one after a reset: %v", err)
	}
}

func TestARegisterThatSomethingElseExtendsIsRefused(t *testing.T) {
	t.Parallel()
	b := first(t)
	if err := b.tpm.ExtendPCR(t.Context(), launch.Register, tpm.Digest{9}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.open().Measure(t.Context(), b.tpm, one); err == nil || !strings.Contains(err.Error(), "something else extends it") || !strings.Contains(err.Error(), "PCR 15") {
		t.Error(err)
	}
	// What extends it before the service starts, at each start of the machine, is a part of the value.
	b.boot()
	if err := b.tpm.ExtendPCR(t.Context(), launch.Register, tpm.Digest{9}); err != nil {
		t.Fatal(err)
	}
	if err := b.start(one); !errors.Is(err, launch.ErrNotAuthorised) {
		t.Errorf("behind something else: %v", err)
	}
	if !b.authorize(one) {
		t.Error("authorize changed nothing")
	}
	if err := b.signs(one); err != nil {
		t.Errorf("authorised behind something else: %v", err)
	}
}

func TestWhatWasRevokedIsRefused(t *testing.T) {
	t.Parallel()
	b := first(t)
	b.authorize(two)
	if err := b.tpm.Revoke(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, events := range map[string][]launch.Event{"the first one": one, "the second one": two} {
		b.boot()
		if err := b.start(events); !errors.Is(err, launch.ErrNotAuthorised) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The TPM itself refuses an approval of before, whatever the files say.
	s := b.measure(two)
	l := b.open()
	s.Counter = 0
	a, err := l.Approval(s)
	if err != nil {
		t.Fatal(err)
	}
	k, err := b.tpm.OpenIssuingKey(t.Context(), l.Signer())
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Use(a, s.CounterName); err != nil {
		t.Fatal(err)
	}
	if _, err := k.SignMessage(nil, []byte("x"), nil); !errors.Is(err, tpm.ErrRevoked) {
		t.Errorf("the TPM: %v", err)
	}
	if !b.authorize(two) {
		t.Error("authorize changed nothing")
	}
	if err := b.signs(two); err != nil {
		t.Errorf("authorised anew: %v", err)
	}
	b.boot()
	if err := b.start(one); !errors.Is(err, launch.ErrNotAuthorised) {
		t.Errorf("the one that was not: %v", err)
	}
}

func TestTheFirstPolicyIsMadeOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	if _, err := b.open().Authorize(one); err == nil || !strings.Contains(err.Error(), "the first start makes it") {
		t.Errorf("authorize before the first start: %v", err)
	}
	s := b.measure(one)
	if _, err := b.open().Approval(s); !errors.Is(err, launch.ErrNotAuthorised) {
		t.Errorf("before the policy is made: %v", err)
	}
	if err := b.open().Provision(s); err != nil || b.open().Version() != 1 {
		t.Fatalf("version %d, %v", b.open().Version(), err)
	}
	if err := b.open().Provision(b.measure(two)); err == nil || b.open().Version() != 1 {
		t.Errorf("a second time: %v", err)
	}
	for _, name := range []string{launch.SignerKey, "policy.json", "measurements.json", "counter.json"} {
		if info, err := os.Stat(filepath.Join(b.dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTheSignersKeyIsNeededToAuthorizeAndNotToStart(t *testing.T) {
	t.Parallel()
	b := first(t)
	path := filepath.Join(b.dir, launch.SignerKey)
	key, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := b.signs(one); err != nil {
		t.Errorf("a start without the signer's key: %v", err)
	}
	elsewhere := first(t)
	theirs, err := os.ReadFile(filepath.Join(elsewhere.dir, launch.SignerKey))
	if err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		key  []byte
		says string
	}{
		"none": {nil, "signer's key is needed"}, "another signer's": {theirs, "not the key of this launch policy's signer"}, "a text": {[]byte("x"), "no PEM file"},
		"a damaged one": {[]byte(strings.Replace(string(key), "M", "N", 1)), launch.SignerKey},
	} {
		_ = os.Remove(path) // of the row before
		if row.key != nil {
			if err := os.WriteFile(path, row.key, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if changed, err := b.open().Authorize(two); err == nil || changed || !strings.Contains(err.Error(), row.says) {
			t.Errorf("%s: %v; want %q", name, err, row.says)
		}
	}
	b.boot()
	if err := b.start(two); !errors.Is(err, launch.ErrNotAuthorised) {
		t.Errorf("what nobody could authorise: %v", err)
	}
	if err := os.WriteFile(path, key, 0o600); err != nil {
		t.Fatal(err)
	}
	if !b.authorize(two) {
		t.Error("with the key back, authorize changed nothing")
	}
}

// An approval that somebody wrote into the folder, or moved from another value to this one, is none.
func TestAnApprovalThatTheSignerDidNotGiveIsRefused(t *testing.T) {
	t.Parallel()
	b := first(t)
	b.boot()
	s := b.measure(two)
	path := filepath.Join(b.dir, "policy.json")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var policy struct {
		Version   int
		Approvals []tpm.Approval
	}
	if err := json.Unmarshal(text, &policy); err != nil {
		t.Fatal(err)
	}
	policy.Approvals[0].Value = s.Value
	if text, err = json.Marshal(policy); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.signs(two); !errors.Is(err, tpm.ErrForged) {
		t.Errorf("an approval that was moved: %v", err)
	}
}

// A signer of the attacker's own does not come to the key that was made for another.
func TestAnotherSignerCannotTakeTheKeyOver(t *testing.T) {
	t.Parallel()
	b := first(t)
	if err := b.signs(one); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(b.dir); err != nil {
		t.Fatal(err)
	}
	b.boot()
	if err := b.open().Provision(b.measure(two)); err != nil {
		t.Fatal(err)
	}
	if err := b.signs(two); err == nil || !strings.Contains(err.Error(), "not bound to this launch policy's signer") {
		t.Errorf("with another signer: %v", err)
	}
}

func TestDamagedFilesAreErrorsThatNameThem(t *testing.T) {
	t.Parallel()
	b := first(t)
	for name, use := range map[string]func() error{
		"policy.json":       func() error { _, err := launch.Open(b.dir); return err },
		"signer.pem":        func() error { _, err := launch.Open(b.dir); return err },
		"measurements.json": func() error { _, err := b.open().Measure(t.Context(), b.tpm, one); return err },
		"counter.json":      func() error { _, err := b.open().Authorize(two); return err },
	} {
		path := filepath.Join(b.dir, name)
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, damage := range []string{"", "{", `{"Base":"zz","Name":"zz","Approvals":7}`, "-----BEGIN PUBLIC KEY-----\nAA==\n-----END PUBLIC KEY-----\n"} {
			if err := os.WriteFile(path, []byte(damage), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := use(); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%s with %q: %v", name, damage, err)
			}
		}
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := use(); err != nil && name != "counter.json" {
			t.Errorf("%s as it was: %v", name, err)
		}
	}
	if fmt.Sprint(b.signs(one)) != "<nil>" {
		t.Error(b.signs(one))
	}
}
