package attribute

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"time"

	"golang.org/x/crypto/argon2"

	"biosv/fault"
	"biosv/generated"
	"biosv/smm"
	"biosv/store"
)

// AdministratorSecret is the attribute whose value is the administrator password: while it is set, SetAttributes,
// DiscardPendingAttributes, ResetAttributes and SaveDefaultAttributes ask for it. Its name has no "Password" in it
// because Metal3 refuses BIOS settings that do.
const AdministratorSecret = "AdministratorSecret"

// What a digest costs: Argon2id (RFC 9106) with the least that OWASP's Password Storage Cheat Sheet takes, 19 MiB
// and 2 passes on one core, some 30 ms. Digests are made one after the other, so that a flood of requests costs
// one core and 19 MiB.
const (
	argonPasses = 2
	argonKiB    = 19 << 10
	digestSize  = 32
	saltSize    = 16
)

// After mostWrong wrong passwords in a row, changes are locked: for a minute, and each time after that for twice
// as long, up to an hour. The right one, when they are not locked, begins the count anew.
const (
	mostWrong    = 5
	firstLockout = time.Minute
	mostLockout  = time.Hour
)

// digest is what is kept of a Password.
type digest struct {
	Salt, Sum   []byte
	Passes, KiB uint32 // of Argon2id, on one core
}

func newDigest(password string) *digest {
	d := &digest{Salt: make([]byte, saltSize), Passes: argonPasses, KiB: argonKiB}
	rand.Read(d.Salt) // which never fails
	d.Sum = d.sum(password)
	return d
}

func (d *digest) sum(password string) []byte {
	secret := []byte(password)
	defer clear(secret)
	return argon2.IDKey(secret, d.Salt, d.Passes, d.KiB, 1, digestSize)
}

// matches compares in constant time. What a damaged state asks for is not computed: it would never end.
func (d *digest) matches(password string) (bool, error) {
	if d.Passes < 1 || d.Passes > 16 || d.KiB < 8 || d.KiB > 256<<10 || len(d.Salt) != saltSize || len(d.Sum) != digestSize {
		return false, fmt.Errorf("%w: the digest of the administrator password is none", store.ErrCorrupt)
	}
	sum := d.sum(password)
	defer clear(sum)
	return subtle.ConstantTimeCompare(sum, d.Sum) == 1, nil
}

// turn waits until it is this request's turn to compute digests; next gives it on.
func (f *Function) turn(ctx context.Context) (next func(), err error) {
	select {
	case f.turns <- struct{}{}:
		return func() { <-f.turns }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// digest makes the digests of the passwords that a request sets, outside of any transaction.
func (f *Function) digest(ctx context.Context, items []*item) error {
	for _, it := range items {
		if !it.secret() || it.removes() {
			continue
		}
		next, err := f.turn(ctx)
		if err != nil {
			return err
		}
		it.digest = newDigest(it.value[0])
		next()
	}
	return nil
}

// secrets are the digests of Passwords by attribute. A pending nil takes a password away.
type secrets struct {
	Current map[string]*digest `json:",omitempty"`
	Pending map[string]*digest `json:",omitempty"`
	raw     []byte
}

func readSecrets(tx *smm.Tx) (s secrets, err error) {
	s, _, err = store.GetJSON[secrets](tx.State(bucket), keySecrets)
	s.raw = bytes.Clone(tx.State(bucket).Get([]byte(keySecrets)))
	if s.Current == nil {
		s.Current = map[string]*digest{}
	}
	if s.Pending == nil {
		s.Pending = map[string]*digest{}
	}
	return s, err
}

func (s *secrets) put(name string, d *digest) {
	delete(s.Pending, name)
	if s.Current[name] = d; d == nil {
		delete(s.Current, name)
	}
}

// apply makes a pending password current.
func (s *secrets) apply(name string) {
	if d, ok := s.Pending[name]; ok {
		s.put(name, d)
	}
}

// write writes the secrets where there are or were any.
func (s *secrets) write(tx *smm.Tx) error {
	if len(s.Current)+len(s.Pending) == 0 {
		tx.State(bucket).Delete([]byte(keySecrets))
		return nil
	}
	return store.PutJSON(tx.State(bucket), keySecrets, s)
}

// writeSecrets writes what a plan does to passwords.
func writeSecrets(tx *smm.Tx, p *plan) error {
	var s *secrets
	for _, step := range p.steps {
		if !step.secret() {
			continue
		}
		if s == nil {
			now, err := readSecrets(tx)
			if err != nil {
				return err
			}
			s = &now
		}
		switch step.to {
		case inForce:
			s.put(step.Name, step.digest)
		case pending:
			s.Pending[step.Name] = step.digest
		case withdrawn:
			delete(s.Pending, step.Name)
		}
	}
	if s == nil {
		return nil
	}
	return s.write(tx)
}

// permit is the outcome of a check of the administrator password: it holds as long as the passwords are those
// that it was checked against.
type permit struct{ secrets []byte }

func (p permit) require(tx *smm.Tx) error {
	if bytes.Equal(p.secrets, tx.State(bucket).Get([]byte(keySecrets))) {
		return nil
	}
	refusal := fault.Conflict(fault.StaleVersion, "A password was changed at the same time: ask again.")
	refusal.CurrentVersion = new(tx.Version())
	return refusal
}

// guesses are the wrong administrator passwords in a row, and the lockouts that they led to.
type guesses struct {
	Wrong, Lockouts int
	LockedUntil     time.Time
}

// look reads the administrator password's digest, nil where none is set, and refuses where changes are locked.
func (f *Function) look(ctx context.Context, call generated.Call) (p permit, d *digest, g guesses, err error) {
	err = f.bios.View(ctx, call, func(tx *smm.Tx) error {
		if tx.State(bucket).Get([]byte(keySecrets)) == nil {
			return nil
		}
		s, err := readSecrets(tx)
		if err != nil {
			return err
		}
		p.secrets, d = s.raw, s.Current[AdministratorSecret]
		if d == nil {
			return nil
		}
		if g, _, err = store.GetJSON[guesses](tx.State(bucket), keyGuesses); err != nil {
			return err
		}
		if tx.Now.Before(g.LockedUntil) {
			return locked(g)
		}
		return nil
	})
	return p, d, g, err
}

func locked(g guesses) error {
	return fault.Locked(fault.PasswordLockout, g.LockedUntil, "Too many wrong administrator passwords were given: the attributes are locked until %s.", g.LockedUntil.UTC().Format(time.RFC3339))
}

// admit asks for the administrator password where one is set. Wrong ones are counted, in a transaction of their
// own, before they are answered and whatever the machine does meanwhile; so that nobody tries many at once, they are checked one after the other. None
// is counted while changes are locked, so a flood writes no more than mostWrong rows a lockout. A request without
// a password guesses nothing: it is refused and not counted.
func (f *Function) admit(ctx context.Context, call generated.Call, op *generated.Operation, password string) (permit, error) {
	p, d, _, err := f.look(ctx, call)
	if err != nil || d == nil {
		return p, err
	}
	if password == "" {
		return p, denied(call, op, "The administrator password is set, and the request has none: give it as AdministratorPassword.")
	}
	next, err := f.turn(ctx)
	if err != nil {
		return p, err
	}
	defer next()
	p, d, g, err := f.look(ctx, call) // anew: those before may have been wrong
	if err != nil || d == nil {
		return p, err
	}
	right, err := d.matches(password)
	if err != nil {
		return p, err
	}
	ctx = context.WithoutCancel(ctx) // who goes away does not take the count along
	switch {
	case !right:
		return p, f.countWrong(ctx, call, op)
	case g != guesses{}:
		return p, f.bios.ChangeBeside(ctx, call, "ForgetWrongPasswords", func(tx *smm.Tx) error {
			tx.State(bucket).Delete([]byte(keyGuesses))
			return nil
		})
	}
	return p, nil
}

// countWrong counts a wrong password, and gives the fault that tells of it.
func (f *Function) countWrong(ctx context.Context, call generated.Call, op *generated.Operation) (answer error) {
	err := f.bios.ChangeBeside(ctx, call, "CountWrongPassword", func(tx *smm.Tx) error {
		g, _, err := store.GetJSON[guesses](tx.State(bucket), keyGuesses)
		if err != nil {
			return err
		}
		g.Wrong++
		answer = denied(call, op, "The administrator password is wrong; %d more, and the attributes are locked for a time.", mostWrong-g.Wrong)
		if g.Wrong >= mostWrong {
			g.Wrong, g.LockedUntil = 0, tx.Now.Add(min(firstLockout<<g.Lockouts, mostLockout))
			g.Lockouts = min(g.Lockouts+1, 6) // 64 minutes are more than mostLockout
			answer = locked(g)
			tx.Event(smm.Event{
				Severity: generated.EventSeverityWarning, MessageID: eventLocked,
				Message: fmt.Sprintf("%d wrong administrator passwords were given: the attributes are locked until %s.", mostWrong, g.LockedUntil.UTC().Format(time.RFC3339)),
			})
		}
		return store.PutJSON(tx.State(bucket), keyGuesses, g)
	})
	if err != nil {
		return err
	}
	return answer
}

func denied(call generated.Call, op *generated.Operation, format string, args ...any) error {
	return fault.AccessDenied(fault.WrongPassword, call.Principal.String(), op.Name, "changes ask for the administrator password while one is set", format, args...)
}
