package attribute_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/argon2"

	"biosv/fault"
	"biosv/generated"
	"biosv/smm"
	"biosv/smm/attribute"
	"biosv/store"
)

const right, wrong = "correct horse", "wrong zebra"

func (b *bios) setSecret(password, administrator string) error {
	_, err := b.request(&generated.SetAttributesRequest{
		Attribute: []*generated.AttributeValue{value(attribute.AdministratorSecret, password)}, AdministratorPassword: administrator,
	})
	return err
}

// setCheapSecret keeps a digest that costs next to nothing, as one of other parameters is still good.
func (b *bios) setCheapSecret() {
	b.t.Helper()
	salt := []byte("0123456789abcdef")
	cheap := map[string]any{"Salt": salt, "Sum": argon2.IDKey([]byte(right), salt, 1, 8, 1, 32), "Passes": 1, "KiB": 8}
	must(b.t, b.bios.Change(b.t.Context(), b.call(), generated.OpSetAttributes, func(tx *smm.Tx) error {
		return store.PutJSON(tx.State("attribute"), "secrets", map[string]any{"Current": map[string]any{attribute.AdministratorSecret: cheap}})
	}))
}

// guess asks for what changes nothing.
func (b *bios) guess(password string) error {
	_, err := b.request(&generated.SetAttributesRequest{Attribute: []*generated.AttributeValue{value("AssetTag", "")}, AdministratorPassword: password})
	return err
}

func TestChangesAskForTheAdministratorPasswordWhereOneIsSet(t *testing.T) {
	t.Parallel()
	b := newBIOS(t, testRegistry())
	must(t, b.guess("whatever, none is set"))
	must(t, b.setSecret(right, ""))
	equal(t, "what is shown", b.state(attribute.AdministratorSecret), "")
	if len(b.machine.configured) > 0 {
		t.Errorf("the machine was given %v", b.machine.configured)
	}
	changes := map[string]func(password string) error{
		"SetAttributes": b.guess,
		"DiscardPendingAttributes": func(p string) error {
			_, err := b.DiscardPendingAttributes(t.Context(), b.call(), &generated.DiscardPendingAttributesRequest{AdministratorPassword: p})
			return err
		},
		"ResetAttributes": func(p string) error {
			_, err := b.ResetAttributes(t.Context(), b.call(), &generated.ResetAttributesRequest{DefaultSet: new(generated.DefaultSetFactory), AdministratorPassword: p})
			return err
		},
		"SaveDefaultAttributes": func(p string) error {
			_, err := b.SaveDefaultAttributes(t.Context(), b.call(), &generated.SaveDefaultAttributesRequest{AdministratorPassword: p})
			return err
		},
	}
	for what, ask := range changes {
		for _, password := range []string{"", wrong} {
			err := ask(password)
			wantCode(t, what+" with "+password, err, fault.WrongPassword)
			var f *generated.AccessDeniedFault
			if errors.As(err, &f) {
				equal(t, "who, what and which rule", []string{f.Subject, f.Operation, f.Rule}, []string{"biosv", what, "changes ask for the administrator password while one is set"})
			}
		}
		must(t, ask(right))
	}
	equal(t, "AdministratorSecret is set after ResetAttributes", code(b.guess("")), fault.WrongPassword)
	b.start()
	b.reopen(testRegistry())
	equal(t, "AdministratorSecret is set after a restart", code(b.guess("")), fault.WrongPassword)

	must(t, b.setSecret("another", right))
	wantCode(t, "the password of before", b.guess(right), fault.WrongPassword)
	must(t, b.setSecret("", "another"))
	must(t, b.guess(""))
}

func TestAPasswordMayWaitForAStart(t *testing.T) {
	t.Parallel()
	b := newBIOS(t, testRegistry())
	onReset := func(password, administrator string) {
		t.Helper()
		_, err := b.request(&generated.SetAttributesRequest{
			Attribute: []*generated.AttributeValue{value(attribute.AdministratorSecret, password)}, AdministratorPassword: administrator, ApplyTime: new(generated.ApplyTimeOnReset),
		})
		must(t, err)
	}
	onReset(right, "")
	b.set(value("StartSecret", "needs a reset"))
	must(t, b.guess(""))
	equal(t, "pending values", b.pending(), []string{"AdministratorSecret → 12:00:00", "StartSecret → 12:00:00"})
	equal(t, "settings of the start", b.start(), smm.Settings{})
	wantCode(t, "a change after the start", b.guess(""), fault.WrongPassword)
	must(t, b.guess(right))

	onReset("", right) // the removal waits too
	version := b.version()
	onReset("", right)
	equal(t, "version after the same removal", b.version(), version)
	wantCode(t, "a change before the start", b.guess(""), fault.WrongPassword)
	_, err := b.DiscardPendingAttributes(t.Context(), b.call(), &generated.DiscardPendingAttributesRequest{AdministratorPassword: right})
	must(t, err)
	b.start()
	wantCode(t, "a change after a start before which the removal was discarded", b.guess(""), fault.WrongPassword)
	onReset("", right)
	b.start()
	must(t, b.guess(""))
	equal(t, "pending values", len(b.pending()), 0)

	onReset(right, "")
	onReset("", "") // nothing is set, so nothing waits any more
	equal(t, "pending values", len(b.pending()), 0)
	b.start()
	must(t, b.guess(""))
}

func TestWrongPasswordsLockTheAttributesAcrossARestart(t *testing.T) {
	t.Parallel()
	b := newBIOS(t, testRegistry())
	b.setCheapSecret()
	for range 4 {
		wantCode(t, "a wrong password", b.guess(wrong), fault.WrongPassword)
	}
	must(t, b.guess(right)) // which begins the count anew
	for n := range 4 {
		wantCode(t, "a wrong password", b.guess(wrong), fault.WrongPassword)
		if n == 1 {
			b.reopen(testRegistry())
		}
		wantCode(t, "no password, which is no guess", b.guess(""), fault.WrongPassword)
	}
	until := b.clock().Add(time.Minute)
	wantLocked(t, "the fifth wrong password", b.guess(wrong), until)
	rows := len(b.auditLines())
	b.pass(59 * time.Second)
	b.reopen(testRegistry())
	wantLocked(t, "the right password", b.guess(right), until)
	wantLocked(t, "no password", b.guess(""), until)
	equal(t, "attributes can be read", b.state("BootMode"), "Uefi")
	equal(t, "audit rows of a flood", len(b.auditLines()), rows)
	lines := b.eventLines()
	equal(t, "events", lines[len(lines)-1], "PasswordLockout")

	b.pass(time.Second)
	for range 4 {
		wantCode(t, "a wrong password", b.guess(wrong), fault.WrongPassword)
	}
	wantLocked(t, "the second lockout", b.guess(wrong), b.clock().Add(2*time.Minute))
	b.pass(2 * time.Minute)
	must(t, b.guess(right))
	for range 4 {
		wantCode(t, "a wrong password", b.guess(wrong), fault.WrongPassword)
	}
	wantLocked(t, "a lockout after the right password", b.guess(wrong), b.clock().Add(time.Minute))
}

func TestALockoutLastsAnHourAtMost(t *testing.T) {
	t.Parallel()
	b := newBIOS(t, testRegistry())
	b.setCheapSecret()
	for lockouts, want := range map[int]time.Duration{3: 8 * time.Minute, 5: 32 * time.Minute, 6: time.Hour, 60: time.Hour} {
		must(t, b.bios.Change(t.Context(), b.call(), generated.OpSetAttributes, func(tx *smm.Tx) error {
			return store.PutJSON(tx.State("attribute"), "guesses", map[string]any{"Wrong": 4, "Lockouts": min(lockouts, 6)})
		}))
		wantLocked(t, fmt.Sprintf("lockout %d", lockouts+1), b.guess(wrong), b.clock().Add(want))
		b.pass(want)
	}
}

func wantLocked(t *testing.T, what string, err error, until time.Time) {
	t.Helper()
	wantCode(t, what, err, fault.PasswordLockout)
	var f *generated.LockedFault
	if errors.As(err, &f) && !f.LockedUntil.ToGoTime().Equal(until) {
		t.Errorf("%s: locked until %s was to be expected, and it is %s", what, until, f.LockedUntil.ToGoTime())
	}
}

// Going away before the answer does not take the count along: here in the transaction after which the password
// is compared.
func TestAWrongPasswordCountsThoughNobodyWaitsForTheAnswer(t *testing.T) {
	t.Parallel()
	b := newBIOS(t, testRegistry())
	b.setCheapSecret()
	for range 5 {
		ctx, cancel := context.WithCancel(t.Context())
		b.onTransaction(2, cancel)
		_, err := b.SetAttributes(ctx, b.call(), &generated.SetAttributesRequest{Attribute: []*generated.AttributeValue{value("AssetTag", "")}, AdministratorPassword: wrong})
		cancel()
		if err == nil {
			t.Fatal("a wrong password was taken")
		}
	}
	wantLocked(t, "the right password", b.guess(right), b.clock().Add(time.Minute))
}

// While a machine acts, changes are refused, and that must not make guessing free.
func TestWrongPasswordsCountWhileTheMachineActs(t *testing.T) {
	t.Parallel()
	b := newBIOS(t, testRegistry())
	b.setCheapSecret()
	must(t, b.bios.Act(t.Context(), b.call(), generated.OpResetSystem, smm.Action{
		Intend: func(*smm.Tx) error { return nil },
		Act: func(context.Context, smm.Machine) error {
			wantCode(t, "the right password", b.guess(right), fault.OperationUnderWay)
			for range 4 {
				wantCode(t, "a wrong password", b.guess(wrong), fault.WrongPassword)
			}
			wantLocked(t, "the fifth wrong password", b.guess(wrong), b.clock().Add(time.Minute))
			return nil
		},
	}))
	wantLocked(t, "the right password", b.guess(right), b.clock().Add(time.Minute))
}

// Many wrong passwords at the same time are no more guesses than one after the other.
func TestPasswordsAreNotGuessedInParallel(t *testing.T) {
	t.Parallel()
	b := newBIOS(t, testRegistry())
	b.setCheapSecret()
	var wg sync.WaitGroup
	var mu sync.Mutex
	count := map[fault.Code]int{}
	for range 16 {
		wg.Go(func() {
			err := b.guess(wrong)
			mu.Lock()
			defer mu.Unlock()
			count[code(err)]++
		})
	}
	wg.Wait()
	equal(t, "answers to 16 at once", count, map[fault.Code]int{fault.WrongPassword: 4, fault.PasswordLockout: 12})
	rows := slices.DeleteFunc(b.auditLines(), func(l string) bool { return l != "CountWrongPassword Done" })
	equal(t, "guesses counted", len(rows), 5)
}

func TestAPasswordChangedMeanwhileIsAskedForAnew(t *testing.T) {
	t.Parallel()
	b := newBIOS(t, testRegistry())
	var wg sync.WaitGroup
	results := make([]error, 6)
	for i := range results {
		wg.Go(func() { results[i] = b.setSecret(fmt.Sprintf("password %d", i), "") })
	}
	wg.Wait()
	won := -1
	for i, err := range results {
		switch {
		case err == nil && won < 0:
			won = i
		case err == nil:
			t.Errorf("both %d and %d set the first password", won, i)
		case code(err) != fault.StaleVersion && code(err) != fault.WrongPassword:
			t.Errorf("a conflict, or that the password is missing, was to be expected, and it is %v", err)
		}
	}
	must(t, b.guess(fmt.Sprintf("password %d", won)))
}

func TestSecretsAreNowhere(t *testing.T) {
	t.Parallel()
	b := newBIOS(t, testRegistry())
	const other, misspelt = "StartSecretValue", "MisspeltSecret"
	must(t, b.setSecret(right, ""))
	_, err := b.request(&generated.SetAttributesRequest{
		Attribute: []*generated.AttributeValue{value("StartSecret", other), value("AssetTag", "tag")}, AdministratorPassword: right,
	})
	must(t, err)
	wantCode(t, "a wrong password", b.guess(wrong), fault.WrongPassword)
	for _, list := range [][]*generated.AttributeValue{
		{value("AdministratorSecret", other+other+other)}, {value("AdministratorSecret", other, other)}, {value("AdministratorSecrt", misspelt)},
		{value("StartSecret", other), value("StartSecret", other)},
	} {
		_, err := b.request(&generated.SetAttributesRequest{Attribute: list, AdministratorPassword: right})
		var f *generated.InvalidAttributeFault
		if !errors.As(err, &f) {
			t.Fatalf("attributes were to be refused, and it is %v", err)
		}
		for _, r := range f.Refusal {
			if r.RefusedValue != nil || strings.Contains(r.Message+f.Message, other) || strings.Contains(r.Message+f.Message, misspelt) {
				t.Errorf("a secret is told: %+v", r)
			}
		}
	}
	_, err = b.GetPendingAttributes(t.Context(), b.call(), &generated.GetPendingAttributesRequest{})
	must(t, err)
	b.start()
	equal(t, "events", b.eventLines(), []string{"AttributesChanged AdministratorSecret:>", "AttributesChanged StartSecret:> AssetTag:>tag", "AttributesApplied StartSecret:>"})
	for _, secret := range []string{right, wrong, other, misspelt} {
		if b.holds(secret) {
			t.Errorf("%q stands in the state or in the log", secret)
		}
	}
	if !b.holds("tag") {
		t.Error("the value of AssetTag is not found, which was to be")
	}
}

func TestADamagedDigestIsNoOpenDoor(t *testing.T) {
	t.Parallel()
	b := newBIOS(t, testRegistry())
	for _, damaged := range []map[string]any{
		{"Salt": make([]byte, 16), "Sum": make([]byte, 32), "Passes": 2, "KiB": 1 << 30},
		{"Salt": make([]byte, 16), "Sum": make([]byte, 32), "Passes": 1 << 30, "KiB": 8},
		{"Salt": make([]byte, 16), "Sum": []byte{}, "Passes": 2, "KiB": 19456},
		{},
	} {
		must(t, b.bios.Change(t.Context(), b.call(), generated.OpSetAttributes, func(tx *smm.Tx) error {
			return store.PutJSON(tx.State("attribute"), "secrets", map[string]any{"Current": map[string]any{attribute.AdministratorSecret: damaged}})
		}))
		if err := b.guess(right); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("%v: that the state is damaged was to be expected, and it is %v", damaged, err)
		}
	}
}
