package uefi

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/google/uuid"

	"biosv/generated"
	"biosv/internal/testbios"
	"biosv/security"
	"biosv/security/policy"
	"biosv/service/uefi/frame"
	"biosv/smm"
	"biosv/smm/variable"
	"biosv/smm/variable/efi"
)

// boot remembers what it is told.
type boot struct{ told []string }

func (b *boot) Arrived(context.Context) error          { b.told = append(b.told, "arrived"); return nil }
func (b *boot) ExitBootServices(context.Context) error { b.told = append(b.told, "exit"); return nil }
func (b *boot) ResetSystem(context.Context, uint32) error {
	b.told = append(b.told, "reset")
	return nil
}

// guestOf makes the Services of a guest over the true gate and the true variables of the domain demo.
func guestOf(t testing.TB, name, domain string) (*Gate, *boot) {
	t.Helper()
	b := testbios.New(t, testbios.Options{})
	nobody := func(context.Context, string) (security.Role, error) { return security.NoRole, nil }
	gate := smm.NewGate(policy.New(nobody, smm.PrivilegedDomain), b.Ledger, generated.PortHandler(generated.Functions{VariablePort: variable.New(b.BIOS)}), slog.New(slog.DiscardHandler))
	boot := &boot{}
	return NewGate(gate, security.GuestOf("biosv.local", name), domain, boot), boot
}

const (
	nvBSRT = uint32(efi.NonVolatile | efi.BootServiceAccess | efi.RuntimeAccess)
	at     = uint32(efi.TimeBasedAuthenticated)
)

func TestAGuestSetsAndReadsThroughTheGate(t *testing.T) {
	t.Parallel()
	g, _ := guestOf(t, "demo", "demo")
	ctx := t.Context()
	for _, name := range []string{"Plain", "with \\ and \x01", "Grüße 😀"} {
		v := Variable{vendor, name}
		if err := g.SetVariable(ctx, frame.OperatingSystem, v, nvBSRT, []byte{0, 1, 2}); err != nil {
			t.Errorf("set %q: %v", name, err)
		}
		attributes, data, err := g.GetVariable(ctx, frame.OperatingSystem, v)
		if err != nil || attributes != nvBSRT || !bytes.Equal(data, []byte{0, 1, 2}) {
			t.Errorf("%q is %x %x, %v", name, attributes, data, err)
		}
	}
	names := map[string]bool{}
	for v := (Variable{}); ; {
		next, err := g.GetNextVariableName(ctx, frame.OperatingSystem, v)
		if errors.Is(err, frame.NotFound) {
			break
		}
		if err != nil || names[next.Name] {
			t.Fatalf("after %v comes %v, %v", v, next, err)
		}
		names[next.Name], v = true, next
	}
	if !names["Plain"] || !names["with \\ and \x01"] || !names["SecureBoot"] {
		t.Errorf("the list has %v", names)
	}
	info, err := g.QueryVariableInfo(ctx, frame.BootServices, nvBSRT)
	if err != nil || info.Maximum == 0 || info.Remaining >= info.Maximum || info.Largest == 0 {
		t.Errorf("room: %+v, %v", info, err)
	}
	if err := g.SetVariable(ctx, frame.OperatingSystem, Variable{vendor, "Plain"}, 0, []byte("no attributes")); err != nil {
		t.Errorf("delete: %v", err)
	}
	if _, _, err := g.GetVariable(ctx, frame.OperatingSystem, Variable{vendor, "Plain"}); !errors.Is(err, frame.NotFound) {
		t.Errorf("what was deleted: %v", err)
	}
}

func TestWhatTheServicesRefuseIsTheirStatus(t *testing.T) {
	t.Parallel()
	g, _ := guestOf(t, "demo", "demo")
	ctx := t.Context()
	mine := Variable{vendor, "Mine"}
	if err := g.SetVariable(ctx, frame.BootServices, mine, nvBSRT, []byte{1}); err != nil {
		t.Fatal(err)
	}
	global := func(name string) Variable { return Variable{uuid.MustParse(efi.GlobalVariable.String()), name} }
	set := func(phase frame.Phase, v Variable, attributes uint32, data ...byte) error {
		return g.SetVariable(ctx, phase, v, attributes, data)
	}
	next := func(v Variable) error { _, err := g.GetNextVariableName(ctx, frame.BootServices, v); return err }
	query := func(attributes uint32) error {
		_, err := g.QueryVariableInfo(ctx, frame.BootServices, attributes)
		return err
	}
	for name, row := range map[string]struct {
		err  error
		want frame.Status
	}{
		"delete what is not there":     {set(frame.BootServices, Variable{vendor, "None"}, nvBSRT), frame.NotFound},
		"attributes that changed":      {set(frame.BootServices, mine, nvBSRT&^uint32(efi.RuntimeAccess), 1), frame.InvalidParameter},
		"reserved attributes":          {set(frame.BootServices, mine, nvBSRT|0x100, 1), frame.InvalidParameter},
		"authentication by counter":    {set(frame.BootServices, mine, nvBSRT|uint32(efi.Reserved10), 1), frame.Unsupported},
		"enhanced authentication":      {set(frame.BootServices, mine, nvBSRT|uint32(efi.EnhancedAuthenticated), 1), frame.Unsupported},
		"two ways of authentication":   {set(frame.BootServices, mine, nvBSRT|at|uint32(efi.EnhancedAuthenticated), 1), frame.InvalidParameter},
		"a mode that is read-only":     {set(frame.OperatingSystem, global("AuditMode"), nvBSRT&^1, 1), frame.WriteProtected},
		"an owner that is not shown":   {set(frame.BootServices, global("PK"), nvBSRT|at, make([]byte, 10)...), frame.SecurityViolation},
		"more than there is room for":  {set(frame.BootServices, Variable{vendor, "Large"}, nvBSRT, make([]byte, 100_000)...), frame.InvalidParameter},
		"what comes after nothing":     {next(Variable{vendor, "None"}), frame.InvalidParameter},
		"room without attributes":      {query(0), frame.InvalidParameter},
		"room with reserved ones":      {query(nvBSRT | 0x100), frame.InvalidParameter},
		"room for counters":            {query(nvBSRT | uint32(efi.Reserved10)), frame.Unsupported},
		"room for what nobody can see": {query(1), frame.InvalidParameter},
	} {
		if !errors.Is(row.err, row.want) {
			t.Errorf("%s: %v, not %v", name, row.err, row.want)
		}
	}
}

func TestAGuestSpeaksForItselfOnly(t *testing.T) {
	t.Parallel()
	g, _ := guestOf(t, "other", "demo")
	if _, _, err := g.GetVariable(t.Context(), frame.BootServices, Variable{vendor, "Mine"}); !errors.Is(err, frame.SecurityViolation) {
		t.Errorf("of another domain: %v", err)
	}
	// That the domain is not there must not look as if the variable were not.
	g, _ = guestOf(t, "gone", "gone")
	if _, _, err := g.GetVariable(t.Context(), frame.BootServices, Variable{vendor, "Mine"}); err == nil || errors.Is(err, frame.NotFound) {
		t.Errorf("of a domain that is not there: %v", err)
	}
}

func TestTheMachineIsToldOfTheBoot(t *testing.T) {
	t.Parallel()
	g, boot := guestOf(t, "demo", "demo")
	ctx := t.Context()
	for range 2 {
		if _, _, err := g.GetVariable(ctx, frame.BootServices, Variable{vendor, "Mine"}); !errors.Is(err, frame.NotFound) {
			t.Error(err)
		}
	}
	if err := errors.Join(g.ExitBootServices(ctx), g.ResetSystem(ctx, frame.OperatingSystem, Reset{})); err != nil {
		t.Error(err)
	}
	if len(boot.told) != 3 || boot.told[0] != "arrived" {
		t.Errorf("it was told %q", boot.told)
	}
	g, boot = guestOf(t, "demo", "demo")
	if _, _, err := g.GetVariable(ctx, frame.OperatingSystem, Variable{vendor, "Mine"}); !errors.Is(err, frame.NotFound) || len(boot.told) != 0 {
		t.Errorf("an operating system is taken for arriving firmware: %q, %v", boot.told, err)
	}
}
