package domain_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"biosv/fault"
	"biosv/generated"
	"biosv/internal/testbios"
	"biosv/smm"
	"biosv/smm/domain"
)

// owned is a machine that somebody had before.
type owned struct {
	*testbios.Machine
	attached string // the variables that it brought
	given    string // those that it took along
	failure  error
}

func (o *owned) Attach(_ context.Context, found *smm.Found) error {
	o.attached = string(found.Flash)
	return o.failure
}

func (o *owned) Detachment(context.Context) (smm.Redefinition, error) {
	return smm.Redefinition{Difference: "-ours"}, o.failure
}

func (o *owned) Detach(_ context.Context, flash []byte) (smm.Redefinition, error) {
	o.given = string(flash)
	return smm.Redefinition{Difference: "-ours", Notes: []string{"given back"}}, o.failure
}

// flashes keeps what is imported as it is.
type flashes struct{}

func (flashes) Import(tx *smm.Tx, flash []byte) ([]string, error) {
	if string(flash) == "damaged" {
		return nil, fault.Integrity(fault.DamagedStore, "", "It is damaged.")
	}
	tx.State("flash").Put([]byte("flash"), flash)
	return []string{"odd"}, nil
}

func (flashes) Render(tx *smm.Tx) ([]byte, error) {
	return slices.Clone(tx.State("flash").Get([]byte("flash"))), nil
}

type attachment struct {
	*bench
	machine *owned
	flash   string
	failure error // of the machines that are opened
}

func newAttachment(t *testing.T) *attachment {
	t.Helper()
	a := &attachment{flash: "theirs"}
	b := testbios.New(t, testbios.Options{
		Examiner: func(_ context.Context, address, name string) (*smm.Found, error) {
			if address != "libvirt:it" {
				return nil, fault.NotFound(fault.UnknownDomain, "/AttachDomain/MachineAddress", address, "There is none.")
			}
			if name == "" {
				name = "it"
			}
			return &smm.Found{
				Domain:       smm.Domain{Name: name, Kind: generated.DomainKindLibvirt, UUID: "5b1f6d0e-0c57-4a0c-9d2e-0d6a4c0a1b2c", Attachment: &smm.Attachment{Address: address}},
				Redefinition: smm.Redefinition{Difference: "+ours", Notes: []string{"seen"}}, Flash: []byte(a.flash),
			}, nil
		},
		Attached: func(m *testbios.Machine) smm.Machine {
			a.machine = &owned{Machine: m, failure: a.failure}
			return a.machine
		},
	})
	a.bench = &bench{t, b, domain.New(b.BIOS, flashes{})}
	return a
}

func (a *attachment) attach(dry bool) (*generated.AttachDomainReply, error) {
	return a.AttachDomain(a.Context(), a.LocalCall(smm.PrivilegedDomain), &generated.AttachDomainRequest{MachineAddress: "libvirt:it", DryRun: dry})
}

func (a *attachment) detach(name string, dry bool) (*generated.DetachDomainReply, error) {
	return a.DetachDomain(a.Context(), a.LocalCall(smm.PrivilegedDomain), &generated.DetachDomainRequest{Name: new(generated.DomainName(name)), DryRun: dry})
}

func TestAMachineIsAttachedWithItsVariablesAndTakesThemAlong(t *testing.T) {
	t.Parallel()
	a := newAttachment(t)
	reply, err := a.attach(true)
	if err != nil || reply.Domain != nil || reply.Difference != "+ours" || slices.Contains(a.list(), "it") {
		t.Fatalf("looking gave %+v, %v; the domains are %q", reply, err, a.list())
	}
	reply, err = a.attach(false)
	if err != nil {
		t.Fatal(err)
	}
	if d := reply.Domain; *d.Name != "it" || *d.DomainKind != generated.DomainKindLibvirt || d.MachineAddress != "libvirt:it" || strings.Join(reply.Note, " ") != "seen odd" || a.machine.attached != "theirs" {
		t.Errorf("it was attached as %+v, with %q: %q", d, reply.Note, a.machine.attached)
	}
	if _, err := a.attach(false); code(err) != "AlreadyExists" {
		t.Errorf("twice: %v", err)
	}
	if err := a.destroy("it"); code(err) != "StillAttached" {
		t.Errorf("destroyed: %v", err)
	}
	given, err := a.detach("it", true)
	if err != nil || given.Difference != "-ours" || a.machine.given != "" || !slices.Contains(a.list(), "it") {
		t.Errorf("looking at the end gave %+v, %v", given, err)
	}
	given, err = a.detach("it", false)
	if err != nil || given.Difference != "-ours" || len(given.Note) != 1 || a.machine.given != "theirs" || slices.Contains(a.list(), "it") {
		t.Errorf("it was given back as %+v with %q, %v; the domains are %q", given, a.machine.given, err, a.list())
	}
	if _, err := a.attach(false); err != nil {
		t.Errorf("again: %v", err)
	}
}

func TestWhatCannotBeAttachedLeavesNoDomain(t *testing.T) {
	t.Parallel()
	a := newAttachment(t)
	a.flash = "damaged"
	if _, err := a.attach(false); !errors.As(err, new(*generated.IntegrityFault)) {
		t.Errorf("with damaged variables: %v", err)
	}
	a.flash, a.failure = "theirs", fault.Conflict(fault.CannotAttach, "It was changed.")
	if _, err := a.attach(false); code(err) != "CannotAttach" {
		t.Errorf("with a machine that refuses: %v", err)
	}
	if slices.Contains(a.list(), "it") {
		t.Error("a domain is left")
	}
}

func TestWhatMayBeAttachedYetKeepsItsDomain(t *testing.T) {
	t.Parallel()
	a := newAttachment(t)
	a.failure = errors.Join(fault.Unavailable(fault.MachineUnavailable, 0, "It does not answer."), smm.ErrUnsettled)
	if _, err := a.attach(false); !errors.As(err, new(*generated.UnavailableFault)) {
		t.Errorf("it gives %v", err)
	}
	if !slices.Contains(a.list(), "it") {
		t.Fatal("its domain is gone, and its variables with it")
	}
	a.machine.failure = nil
	if _, err := a.detach("it", false); err != nil || a.machine.given != "theirs" {
		t.Errorf("it cannot be detached: %v, %q", err, a.machine.given)
	}
}

func TestOnlyAMachineThatIsOffAndWasAttachedIsDetached(t *testing.T) {
	t.Parallel()
	a := newAttachment(t)
	if _, err := a.detach("demo", false); code(err) != "NotAttached" {
		t.Errorf("a simulated one: %v", err)
	}
	if _, err := a.detach("none", false); code(err) != "UnknownDomain" {
		t.Errorf("one that is not there: %v", err)
	}
	if _, err := a.attach(false); err != nil {
		t.Fatal(err)
	}
	if err := a.machine.Reset(t.Context(), generated.ResetTypeOn); err != nil {
		t.Fatal(err)
	}
	if _, err := a.detach("it", false); code(err) != "DomainNotOff" || a.machine.given != "" {
		t.Errorf("one that runs: %v", err)
	}
}

func TestADivergenceIsKeptAndToldOnce(t *testing.T) {
	t.Parallel()
	a := newAttachment(t)
	if _, err := a.attach(false); err != nil {
		t.Fatal(err)
	}
	before := len(a.Events("it"))
	for _, why := range []string{"it was saved.", "it was saved.", ""} {
		if err := a.machine.Supervisor.Diverge(t.Context(), why); err != nil {
			t.Fatal(err)
		}
		reply, err := a.GetDomain(t.Context(), a.LocalCall("it"), &generated.GetDomainRequest{})
		if err != nil || reply.Domain.Diverged != why {
			t.Errorf("it has diverged: %+v, %v", reply.Domain, err)
		}
	}
	if n := len(a.Events("it")) - before; n != 2 {
		t.Errorf("the log has %d records", n)
	}
}
