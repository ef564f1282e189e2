package domain_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"

	"biosv/generated"
	"biosv/internal/testbios"
	"biosv/smm"
	"biosv/smm/domain"
)

type bench struct {
	*testing.T
	*testbios.BIOS
	*domain.Function
}

func newBench(t *testing.T, o testbios.Options) *bench {
	t.Helper()
	b := testbios.New(t, o)
	return &bench{t, b, domain.New(b.BIOS, nil)}
}

func (b *bench) create(name string, edits ...func(*generated.CreateDomainRequest)) (*generated.Domain, error) {
	request := &generated.CreateDomainRequest{Name: new(generated.DomainName(name)), DomainKind: new(generated.DomainKindSimulated)}
	for _, edit := range edits {
		edit(request)
	}
	reply, err := b.CreateDomain(b.Context(), b.LocalCall(smm.PrivilegedDomain), request)
	if err != nil {
		return nil, err
	}
	return reply.Domain, nil
}

func (b *bench) destroy(name string) error {
	_, err := b.DestroyDomain(b.Context(), b.LocalCall(smm.PrivilegedDomain), &generated.DestroyDomainRequest{Name: new(generated.DomainName(name))})
	return err
}

func (b *bench) list() (names []string) {
	b.Helper()
	reply, err := b.ListDomains(b.Context(), b.LocalCall(smm.PrivilegedDomain), &generated.ListDomainsRequest{})
	if err != nil {
		b.Fatal(err)
	}
	for _, d := range reply.Domain {
		names = append(names, string(*d.Name))
	}
	return names
}

func code(err error) string {
	var conflict *generated.ConflictFault
	var notFound *generated.NotFoundFault
	var invalid *generated.InvalidRequestFault
	var limit *generated.LimitExceededFault
	switch {
	case errors.As(err, &conflict):
		return conflict.Code
	case errors.As(err, &notFound):
		return notFound.Code
	case errors.As(err, &invalid):
		return invalid.Code + " " + invalid.ElementPath
	case errors.As(err, &limit):
		return limit.Code + " " + limit.LimitName
	}
	return fmt.Sprint(err)
}

func TestADomainIsCreatedSeenAndDestroyed(t *testing.T) {
	t.Parallel()
	b := newBench(t, testbios.Options{})
	d, err := b.create("web1", func(r *generated.CreateDomainRequest) { r.Description = "front" })
	if err != nil {
		t.Fatal(err)
	}
	if *d.Name != "web1" || *d.DomainKind != generated.DomainKindSimulated || d.Description != "front" || d.Address != "/bios/web1" || *d.PowerState != generated.PowerStateOff ||
		!d.CreatedAt.ToGoTime().Equal(b.Clock()) || *d.Version != 0 {
		t.Errorf("created is %+v", d)
	}
	if _, err := uuid.Parse(d.SystemUuid); err != nil {
		t.Error(err)
	}
	if got := b.list(); fmt.Sprint(got) != "[dom0 demo web1]" {
		t.Errorf("the domains are %v", got)
	}
	b.Fake("web1").Be(generated.PowerStateOn)
	reply, err := b.GetDomain(t.Context(), b.LocalCall("web1"), &generated.GetDomainRequest{})
	if err != nil || *reply.Domain.PowerState != generated.PowerStateOn || reply.Domain.SystemUuid != d.SystemUuid {
		t.Errorf("it is %+v, %v", reply, err)
	}
	b.Fake("web1").Break(errors.New("it does not answer"))
	if reply, err = b.GetDomain(t.Context(), b.LocalCall("web1"), &generated.GetDomainRequest{}); err != nil || reply.Domain.PowerState != nil {
		t.Errorf("a state that cannot be observed is told as %v, %v", reply.Domain.PowerState, err)
	}
	if err := b.destroy("web1"); err == nil {
		t.Error("a domain whose state cannot be observed was destroyed")
	}
	b.Fake("web1").Break(nil)
	b.Fake("web1").Be(generated.PowerStateOff)
	if err := b.destroy("web1"); err != nil || !b.Fake("web1").Closed() || !b.Fake("web1").Destroyed() {
		t.Errorf("destroyed: %v; its machine is closed: %v, and what it kept is gone: %v", err, b.Fake("web1").Closed(), b.Fake("web1").Destroyed())
	}
	if _, err := b.GetDomain(t.Context(), b.LocalCall("web1"), &generated.GetDomainRequest{}); code(err) != "UnknownDomain" {
		t.Errorf("afterwards: %v", err)
	}
	var told []string
	for _, e := range b.Events(smm.PrivilegedDomain) {
		told = append(told, e.MessageId+" "+e.Change[0].OldValue+">"+e.Change[0].NewValue)
	}
	if got := strings.Join(told, ", "); got != "ResourceEvent.1.3.ResourceCreated >web1, ResourceEvent.1.3.ResourceRemoved web1>" {
		t.Errorf("the events are %s", got)
	}
}

func TestADomainOfTheNameOfOneDestroyedBeginsAnew(t *testing.T) {
	t.Parallel()
	b := newBench(t, testbios.Options{})
	first, err := b.create("web1")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Change(t.Context(), b.LocalCall("web1"), generated.OpSetAttributes, func(tx *smm.Tx) error {
		tx.State("attribute").Put([]byte("k"), []byte("a secret of the first one"))
		tx.Event(smm.Event{Message: "of the first one"})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := b.destroy("web1"); err != nil {
		t.Fatal(err)
	}
	second, err := b.create("web1")
	if err != nil || second.SystemUuid == first.SystemUuid || *second.Version != 0 || len(b.Events("web1")) != 0 {
		t.Errorf("the second one is %+v with %d events, %v", second, len(b.Events("web1")), err)
	}
	if err := b.View(t.Context(), b.LocalCall("web1"), func(tx *smm.Tx) error {
		if v := tx.State("attribute").Get([]byte("k")); v != nil {
			t.Errorf("it holds %q", v)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func TestWhatCannotBeCreatedOrDestroyed(t *testing.T) {
	t.Parallel()
	b := newBench(t, testbios.Options{})
	_, exists := b.create("demo")
	_, privileged := b.create("dom1", func(r *generated.CreateDomainRequest) { r.DomainKind = new(generated.DomainKindPrivileged) })
	_, long := b.create("web1", func(r *generated.CreateDomainRequest) { r.Description = strings.Repeat("é", 257) })
	_, fits := b.create("web2", func(r *generated.CreateDomainRequest) { r.Description = strings.Repeat("é", 256) })
	b.Fake("demo").Be(generated.PowerStateOn)
	on := b.destroy("demo")
	b.Fake("demo").Be(generated.PowerStatePoweringOff)
	goingOff := b.destroy("demo")
	for _, row := range []struct {
		name string
		err  error
		want string
	}{
		{"a second one of the name", exists, "AlreadyExists"},
		{"another privileged one", privileged, "InvalidValue /CreateDomain/DomainKind"},
		{"a description that is too long", long, "InvalidValue /CreateDomain/Description"},
		{"the longest description", fits, "<nil>"},
		{"destroyed while on", on, "DomainNotOff"},
		{"destroyed while on its way", goingOff, "DomainNotOff"},
		{"the privileged one destroyed", b.destroy(smm.PrivilegedDomain), "PrivilegedDomainStays"},
		{"one destroyed that is not there", b.destroy("nowhere"), "UnknownDomain"},
	} {
		if got := code(row.err); got != row.want {
			t.Errorf("%s: %s; want %s", row.name, got, row.want)
		}
	}
	if got := b.list(); fmt.Sprint(got) != "[dom0 demo web2]" {
		t.Errorf("the domains are %v", got)
	}
}

func TestTheNumberOfDomainsIsLimited(t *testing.T) {
	t.Parallel()
	b := newBench(t, testbios.Options{})
	if err := b.Change(t.Context(), b.LocalCall(smm.PrivilegedDomain), generated.OpCreateDomain, func(tx *smm.Tx) error {
		for i := range domain.MostDomains - 2 {
			if err := tx.AddDomain(smm.Domain{Name: fmt.Sprintf("d%d", i)}); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.create("web1"); code(err) != "TooMany domains" {
		t.Errorf("one too many: %v", err)
	}
}

// A seed makes a simulated machine's behaviour; of the same name it is the same, and another one can be asked for.
func TestASeedIsOfTheNameOrAsAskedFor(t *testing.T) {
	t.Parallel()
	seeds := map[string]uint32{}
	for range 2 {
		b := newBench(t, testbios.Options{})
		for _, name := range []string{"web1", "web2"} {
			if _, err := b.create(name); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := b.create("web3", func(r *generated.CreateDomainRequest) { r.SimulationSeed = new(generated.SimulationSeed(7)) }); err != nil {
			t.Fatal(err)
		}
		domains, err := b.Domains(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range domains {
			if before, ok := seeds[d.Name]; ok && before != d.Seed {
				t.Errorf("the seed of %s is %d, and was %d", d.Name, d.Seed, before)
			}
			seeds[d.Name] = d.Seed
		}
	}
	if seeds["web1"] == seeds["web2"] || seeds["web3"] != 7 {
		t.Errorf("the seeds are %v", seeds)
	}
}
