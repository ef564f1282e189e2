package operator_test

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"biosv/fault"
	"biosv/generated"
	"biosv/internal/testbios"
	"biosv/internal/testca"
	"biosv/security"
	"biosv/smm"
	"biosv/smm/operator"
	"biosv/store"
)

// issuer issues what a test says, and remembers for whom.
type issuer struct {
	fail   error
	issued []string
}

func (i *issuer) IssueOperator(_ context.Context, name string, request []byte) ([]byte, error) {
	i.issued = append(i.issued, name+" "+string(request))
	return []byte("certificate of " + name), i.fail
}

type bench struct {
	*testing.T
	*testbios.BIOS
	*operator.Function
	issuer *issuer
	call   generated.Call
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := testbios.New(t, testbios.Options{})
	i := &issuer{}
	return &bench{T: t, BIOS: b, Function: operator.New(b.BIOS, i, "biosv.test"), issuer: i, call: b.Call(testca.Principal(t, "spiffe://biosv.test/person/ada"), smm.PrivilegedDomain)}
}

func (b *bench) add(name string, role generated.OperatorRole) error {
	_, err := b.AddOperator(b.Context(), b.call, &generated.AddOperatorRequest{Name: new(generated.OperatorName(name)), OperatorRole: &role})
	return err
}

func (b *bench) remove(name string) error {
	_, err := b.RemoveOperator(b.Context(), b.call, &generated.RemoveOperatorRequest{Name: new(generated.OperatorName(name))})
	return err
}

func (b *bench) role(name string) (role security.Role) {
	b.Helper()
	if err := b.Store.View(b.Context(), func(tx *store.Tx) (err error) {
		role, err = operator.Role(tx, name)
		return err
	}); err != nil {
		b.Fatal(err)
	}
	return role
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
		return notFound.Code + " " + notFound.ElementPath
	case errors.As(err, &invalid):
		return invalid.Code + " " + invalid.ElementPath
	case errors.As(err, &limit):
		return limit.Code + " " + limit.LimitName
	}
	return fmt.Sprint(err)
}

func TestOperatorsAreAddedChangedListedAndRemoved(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	if got := b.role("vera"); got != security.NoRole {
		t.Errorf("somebody unknown has the role %s", got)
	}
	added := b.Clock()
	if err := errors.Join(b.add("vera", generated.OperatorRoleViewer), b.add("ada", generated.OperatorRoleAdmin)); err != nil {
		t.Fatal(err)
	}
	if b.role("vera") != security.Viewer || b.role("ada") != security.Admin {
		t.Errorf("vera is %s and ada is %s", b.role("vera"), b.role("ada"))
	}
	b.Wait(time.Hour)
	if err := b.add("vera", generated.OperatorRoleOperator); err != nil || b.role("vera") != security.Operator {
		t.Errorf("changed, vera is %s, %v", b.role("vera"), err)
	}
	list, err := b.ListOperators(t.Context(), b.call, &generated.ListOperatorsRequest{})
	if err != nil || len(list.Operator) != 2 {
		t.Fatalf("%+v, %v", list, err)
	}
	ada, vera := list.Operator[0], list.Operator[1]
	if *ada.Name != "ada" || *vera.Name != "vera" || vera.Identity != "spiffe://biosv.test/person/vera" || *vera.OperatorRole != generated.OperatorRoleOperator ||
		!vera.AddedAt.ToGoTime().Equal(added) || vera.AddedBy != "spiffe://biosv.test/person/ada" {
		t.Errorf("listed are %+v and %+v", ada, vera)
	}
	if err := b.remove("vera"); err != nil || b.role("vera") != security.NoRole {
		t.Errorf("removed, vera is %s, %v", b.role("vera"), err)
	}
	if got := code(b.remove("vera")); got != "UnknownOperator /RemoveOperator/Name" {
		t.Errorf("removed again: %s", got)
	}
	var told []string
	for _, e := range b.Events(smm.PrivilegedDomain) {
		told = append(told, e.MessageId+" "+e.Change[0].Name+" "+e.Change[0].OldValue+">"+e.Change[0].NewValue)
	}
	want := []string{
		"BiosV.1.0.OperatorChanged Operator/vera >Viewer", "BiosV.1.0.OperatorChanged Operator/ada >Admin",
		"BiosV.1.0.OperatorChanged Operator/vera Viewer>Operator", "BiosV.1.0.OperatorRemoved Operator/vera Operator>",
	}
	if strings.Join(told, "\n") != strings.Join(want, "\n") {
		t.Errorf("the events are\n%s", strings.Join(told, "\n"))
	}
}

func TestTheLastAdminStays(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	if err := errors.Join(b.add("ada", generated.OperatorRoleAdmin), b.add("vera", generated.OperatorRoleViewer)); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"removed": b.remove("ada"), "made an operator": b.add("ada", generated.OperatorRoleOperator), "made a viewer": b.add("ada", generated.OperatorRoleViewer),
	} {
		if code(err) != "LastAdmin" || b.role("ada") != security.Admin {
			t.Errorf("the last admin is %s: %v; it is %s now", what, err, b.role("ada"))
		}
	}
	if err := b.add("ada", generated.OperatorRoleAdmin); err != nil {
		t.Errorf("made an admin again: %v", err)
	}
	if err := errors.Join(b.add("vera", generated.OperatorRoleAdmin), b.remove("ada")); err != nil {
		t.Errorf("when there is another one: %v", err)
	}
	if code(b.remove("vera")) != "LastAdmin" {
		t.Error("the one that is left was removed")
	}
}

func TestACertificateIsIssuedForARequest(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	block := func(kind string) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: []byte("a request")}))
	}
	ask := func(text string) (string, error) {
		reply, err := b.AddOperator(t.Context(), b.call, &generated.AddOperatorRequest{Name: new(generated.OperatorName("vera")), OperatorRole: new(generated.OperatorRoleViewer), RequestPem: text})
		if err != nil {
			return "", err
		}
		return reply.CertificatePem, nil
	}
	for name, text := range map[string]string{
		"no PEM": "a request", "another block": block("CERTIFICATE"), "two blocks": block("CERTIFICATE REQUEST") + block("CERTIFICATE REQUEST"),
		"text behind it": block("CERTIFICATE REQUEST") + "and more",
	} {
		if _, err := ask(text); code(err) != "InvalidCertificateRequest /AddOperator/RequestPem" {
			t.Errorf("%s: %v", name, err)
		}
	}
	b.issuer.fail = fault.Integrity(fault.BadSignature, "", "no")
	if len(b.issuer.issued) != 0 {
		t.Errorf("issued were %q", b.issuer.issued)
	}
	if _, err := ask(block("CERTIFICATE REQUEST")); err != b.issuer.fail {
		t.Errorf("a request that is not right: %v", err)
	}
	if b.role("vera") != security.NoRole {
		t.Error("requests that were refused added an operator")
	}
	b.issuer.fail, b.issuer.issued = nil, nil
	if got, err := ask("\n" + block("CERTIFICATE REQUEST") + "\n"); got != "certificate of vera" || err != nil || fmt.Sprint(b.issuer.issued) != "[vera a request]" {
		t.Errorf("%q, %v; asked for were %q", got, err, b.issuer.issued)
	}
	if got, err := ask(""); got != "" || err != nil || len(b.issuer.issued) != 1 {
		t.Errorf("without a request: %q, %v", got, err)
	}
}

func TestTheNumberOfOperatorsIsLimited(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	if err := b.Change(t.Context(), b.call, generated.OpAddOperator, func(tx *smm.Tx) error {
		for i := range operator.MostOperators {
			tx.Shared("operator").Put(fmt.Appendf(nil, "operator-%d", i), []byte(`{"Role":"Viewer"}`))
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if got := code(b.add("vera", generated.OperatorRoleViewer)); got != "TooMany operators" {
		t.Errorf("one too many: %s", got)
	}
	if err := b.add("operator-7", generated.OperatorRoleAdmin); err != nil {
		t.Errorf("one that is there: %v", err)
	}
}

func TestARoleThatCannotBeReadIsNone(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	if err := b.Change(t.Context(), b.call, generated.OpAddOperator, func(tx *smm.Tx) error {
		tx.Shared("operator").Put([]byte("damaged"), []byte(`{`))
		tx.Shared("operator").Put([]byte("unknown"), []byte(`{"Role":"Emperor"}`))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if got := b.role("unknown"); got != security.NoRole {
		t.Errorf("a role that there is none of is %s", got)
	}
	if err := b.Store.View(t.Context(), func(tx *store.Tx) error {
		role, err := operator.Role(tx, "damaged")
		if role != security.NoRole {
			t.Errorf("a damaged record is %s", role)
		}
		return err
	}); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("a damaged record: %v", err)
	}
}
