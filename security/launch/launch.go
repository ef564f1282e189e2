// Package launch measures the program that is about to use the issuing key, and keeps the launch policy: which
// measurements may. It measures once for each start of the TPM, before anything else is done: the program's file,
// the settings that matter for trust, and a separator, after which nothing counts. The policy's signer approves
// register values; its key is DIR/signer.key, which its keeper may move to a safe place until the next upgrade.
//
// All of this is asserted by the program itself. It binds the key to the program that was there when the policy
// was made, and proves nothing against a program that lies about itself from the beginning.
package launch

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"biosv/internal/durable"
	"biosv/security/keyfile"
	"biosv/security/tpm"
)

// Register is the PCR that is measured into. Of those that only a reset of the machine clears, it is the last:
// firmware, boot loaders, the kernel and IMA own 0 to 14 on real machines. systemd extends 15 where it is told to
// measure the machine id; the policy is made for the value found then.
const Register = 15

// Names of files in the folder of launch policies.
const (
	SignerKey    = "signer.key"
	signerPublic = "signer.pem"
	policyFile   = "policy.json"
	logFile      = "measurements.json"
)

// ErrNotAuthorised says that the program or its settings are not what the launch policy names.
var ErrNotAuthorised = errors.New("this biosv, or its settings, are not authorised by the launch policy: run `biosv launch authorize` with the signer's key in place")

// Event is one measurement.
type Event struct {
	Name   string
	Digest hexDigest
}

// measurements is the log of one life of the TPM's register: it is written before the register is extended, so
// that a process that ended in between is noticed.
type measurements struct {
	Resets uint32    // how often the TPM had been reset
	Base   hexDigest // value of the register before
	Events []Event
}

// policies are the approvals that the signer gave, the newest last.
type policies struct {
	Version   int
	Approvals []tpm.Approval
}

// Launch is the launch policy of a data folder.
type Launch struct {
	dir      string
	signer   *ecdsa.PublicKey
	policies policies
}

// Program measures the program's own file.
func Program() (tpm.Digest, error) {
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		return tpm.Digest{}, fmt.Errorf("measure the program: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return tpm.Digest{}, fmt.Errorf("measure the program: %w", err)
	}
	return tpm.Digest(h.Sum(nil)), nil
}

// Expected are the events of a start: program, settings, separator.
func Expected(program tpm.Digest, settings []byte) []Event {
	return []Event{
		{"program", hexDigest(program)},
		{"settings", sha256.Sum256(settings)},
		{"separator", sha256.Sum256([]byte{0, 0, 0, 0})},
	}
}

// Open opens the launch policy of a folder; where there is none, its signer's key is made.
func Open(dir string) (*Launch, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	l := &Launch{dir: dir}
	public, err := os.ReadFile(filepath.Join(dir, signerPublic))
	if os.IsNotExist(err) {
		if l.signer, err = makeSigner(dir); err != nil {
			return nil, fmt.Errorf("make the launch policy's signer: %w", err)
		}
		return l, nil
	}
	if err != nil {
		return nil, err
	}
	if l.signer, err = parsePublic(public); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, signerPublic), err)
	}
	return l, readJSON(filepath.Join(dir, policyFile), &l.policies)
}

// Signer is the key that approves policies.
func (l *Launch) Signer() *ecdsa.PublicKey { return l.signer }

// Version is the version of the launch policy; 0 where nothing was approved yet.
func (l *Launch) Version() int { return l.policies.Version }

// makeSigner writes the private key first: without it, the public one is of no use.
func makeSigner(dir string) (*ecdsa.PublicKey, error) {
	key, err := keyfile.Make(filepath.Join(dir, SignerKey))
	if err != nil {
		return nil, err
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, err
	}
	return &key.PublicKey, durable.WriteFile(filepath.Join(dir, signerPublic), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), 0o600)
}

func parsePublic(text []byte) (*ecdsa.PublicKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("it is no PEM file")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	if k, ok := key.(*ecdsa.PublicKey); ok && k.Curve == elliptic.P256() {
		return k, nil
	}
	return nil, errors.New("it is no P-256 key")
}

func (l *Launch) signerKey() (*ecdsa.PrivateKey, error) {
	path := filepath.Join(l.dir, SignerKey)
	key, err := keyfile.Read(path)
	if err != nil {
		return nil, fmt.Errorf("the signer's key is needed: %w", err)
	}
	if key.PublicKey.Equal(l.signer) {
		return key, nil
	}
	return nil, fmt.Errorf("%s is not the key of this launch policy's signer", path)
}

// State is where a start stands.
type State struct {
	Value       tpm.Digest // of the register
	Events      []Event    // measured since the TPM was reset
	Counter     uint64     // of revocations
	CounterName []byte
}

// Measure measures the events of this start, once for each reset of the TPM: a process that starts again on a TPM
// that goes on finds them there, and one that ended in the middle of them is completed. Another program, or other
// settings, on a TPM that goes on is measured behind what is there.
func (l *Launch) Measure(ctx context.Context, t *tpm.TPM, events []Event) (State, error) {
	value, resets, err := t.ReadPCR(ctx, Register)
	if err != nil {
		return State{}, err
	}
	path := filepath.Join(l.dir, logFile)
	var log measurements
	if err := readJSON(path, &log); err != nil {
		return State{}, err
	}
	if log.Resets != resets || len(log.Events) == 0 {
		log = measurements{Resets: resets, Base: hexDigest(value)}
	}
	done := log.extended(value)
	if done < 0 {
		return State{}, fmt.Errorf("PCR %d is not what %s says was measured into it: something else extends it", Register, path)
	}
	if n := len(log.Events); done == n && !endsWith(log.Events, events) {
		log.Events = append(log.Events, events...)
		if err := writeJSON(path, log); err != nil {
			return State{}, err
		}
	}
	for _, e := range log.Events[done:] {
		if err := t.ExtendPCR(ctx, Register, tpm.Digest(e.Digest)); err != nil {
			return State{}, err
		}
	}
	s := State{Value: replay(log.Base, log.Events), Events: log.Events}
	// A start that completed another one's measurements has its own still to come.
	if !endsWith(log.Events, events) {
		return l.Measure(ctx, t, events)
	}
	if s.Counter, s.CounterName, err = t.Counter(ctx); err != nil {
		return State{}, err
	}
	return s, l.keepCounter(s.CounterName, s.Counter)
}

// extended says how many events a value stands for; -1 is none that the log knows.
func (m measurements) extended(value tpm.Digest) int {
	at := tpm.Digest(m.Base)
	for i, e := range m.Events {
		if at == value {
			return i
		}
		at = tpm.Extend(at, tpm.Digest(e.Digest))
	}
	if at == value {
		return len(m.Events)
	}
	return -1
}

func endsWith(list, events []Event) bool {
	if len(list) < len(events) {
		return false
	}
	for i, e := range list[len(list)-len(events):] {
		if e != events[i] {
			return false
		}
	}
	return true
}

func replay(base hexDigest, events []Event) tpm.Digest {
	value := tpm.Digest(base)
	for _, e := range events {
		value = tpm.Extend(value, tpm.Digest(e.Digest))
	}
	return value
}

// Provision approves the state of the first start. It is for a folder in which nothing was approved yet.
func (l *Launch) Provision(s State) error {
	if l.policies.Version != 0 {
		return errors.New("there is a launch policy already")
	}
	return l.approve(s.Counter, s.CounterName, s.Value)
}

// Approval gives the approval for a state.
func (l *Launch) Approval(s State) (tpm.Approval, error) {
	for i := len(l.policies.Approvals) - 1; i >= 0; i-- {
		if a := l.policies.Approvals[i]; a.Value == s.Value && a.PCR == Register && a.Counter >= s.Counter {
			return a, nil
		}
	}
	return tpm.Approval{}, ErrNotAuthorised
}

// Authorize approves a program with its settings, from their measurements: for a TPM that was reset, and for one
// that goes on with what was measured last. It needs the signer's key, and no TPM. It says whether anything was
// approved that was not before.
func (l *Launch) Authorize(events []Event) (bool, error) {
	if l.policies.Version == 0 {
		return false, errors.New("there is no launch policy yet: the first start makes it")
	}
	var log measurements
	if err := readJSON(filepath.Join(l.dir, logFile), &log); err != nil {
		return false, err
	}
	values := []tpm.Digest{replay(hexDigest{}, events), replay(log.Base, events)}
	if endsWith(log.Events, events) {
		values = append(values, replay(log.Base, log.Events))
	} else {
		values = append(values, replay(log.Base, append(log.Events[:len(log.Events):len(log.Events)], events...)))
	}
	name, counter, err := l.counter()
	if err != nil {
		return false, err
	}
	fresh := values[:0]
	for _, v := range values {
		known := false
		for _, a := range l.policies.Approvals {
			known = known || a.Value == v && a.Counter >= counter
		}
		for _, w := range fresh {
			known = known || v == w
		}
		if !known {
			fresh = append(fresh, v)
		}
	}
	if len(fresh) == 0 {
		return false, nil
	}
	if err := l.approve(counter, name, fresh...); err != nil {
		return false, err
	}
	return true, nil
}

// approve signs policies for register values and keeps them.
func (l *Launch) approve(counter uint64, name []byte, values ...tpm.Digest) error {
	key, err := l.signerKey()
	if err != nil {
		return err
	}
	next := policies{Version: l.policies.Version + 1, Approvals: l.policies.Approvals[:len(l.policies.Approvals):len(l.policies.Approvals)]}
	for _, v := range values {
		a, err := tpm.Approve(tpm.Policy{PCR: Register, Value: v, Counter: counter}, name, key)
		if err != nil {
			return err
		}
		next.Approvals = append(next.Approvals, a)
	}
	if err := writeJSON(filepath.Join(l.dir, policyFile), next); err != nil {
		return err
	}
	l.policies = next
	return nil
}

const counterFile = "counter.json"

// counterState is what an approval without a TPM must know of the revocation counter.
type counterState struct {
	Name  string
	Value uint64
}

func (l *Launch) counter() (name []byte, value uint64, err error) {
	path := filepath.Join(l.dir, counterFile)
	var s counterState
	if err := readJSON(path, &s); err != nil {
		return nil, 0, err
	}
	if name, err = hex.DecodeString(s.Name); err != nil {
		return nil, 0, fmt.Errorf("%s: %w", path, err)
	}
	return name, s.Value, nil
}

// keepCounter keeps what a start read, so that what is authorised afterwards is not revoked already.
func (l *Launch) keepCounter(name []byte, value uint64) error {
	if before, v, err := l.counter(); err == nil && v == value && string(before) == string(name) {
		return nil
	}
	return writeJSON(filepath.Join(l.dir, counterFile), counterState{hex.EncodeToString(name), value})
}

// hexDigest is a SHA-256 that is hexadecimal as text.
type hexDigest tpm.Digest

// MarshalText gives hexadecimal.
func (d hexDigest) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(d[:])), nil }

// UnmarshalText reads hexadecimal.
func (d *hexDigest) UnmarshalText(text []byte) error {
	if n, err := hex.Decode(d[:], text); err != nil || n != len(d) {
		return fmt.Errorf("%q is no SHA-256", text)
	}
	return nil
}

func readJSON(path string, v any) error {
	text, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func writeJSON(path string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(path, append(text, '\n'), 0o600)
}
