package policy_test

import (
	"context"
	"errors"
	"testing"

	"biosv/fault"
	"biosv/generated"
	"biosv/internal/testca"
	"biosv/security"
	"biosv/security/policy"
)

const privileged = "dom0"

// staff are the operators of the tests.
var staff = map[string]security.Role{"vera": security.Viewer, "otto": security.Operator, "ada": security.Admin}

func roles(_ context.Context, name string) (security.Role, error) { return staff[name], nil }

// principals are one of each sort.
func principals(t *testing.T) map[string]security.Principal {
	t.Helper()
	all := map[string]security.Principal{
		"nobody": {}, "service": security.Local(), "stranger": security.Stranger(),
		"demo": testca.Principal(t, "spiffe://biosv.test/domain/demo"),
	}
	for _, name := range []string{"vera", "otto", "ada", "unknown"} {
		all[name] = testca.Principal(t, "spiffe://biosv.test/person/"+name)
	}
	return all
}

// verdict is the name of the fault that a refusal is, empty for none.
func verdict(t *testing.T, err error) string {
	t.Helper()
	if err == nil {
		return ""
	}
	var f generated.Fault
	if !errors.As(err, &f) {
		t.Fatalf("the refusal is no fault of the contract: %v", err)
	}
	if f.Error() == "" {
		t.Errorf("%T says nothing", f)
	}
	return f.Info().Name
}

const (
	unauthenticated = "AuthenticationRequiredFault"
	denied          = "AccessDeniedFault"
	elsewhere       = "NotFoundFault"
)

// Every operation of the contract, asked for by everybody, at the privileged domain's address, at a guest's and
// at that of another guest.
func TestJudgeIsTotalOverTheContract(t *testing.T) {
	t.Parallel()
	p := policy.New(roles, privileged)
	all := principals(t)
	for i := range generated.Operations {
		op := &generated.Operations[i]
		for _, at := range []string{privileged, "demo", "web1"} {
			for name, who := range all {
				want := ""
				switch role, known := staff[name]; {
				case name == "service", name != "nobody" && op.Role == security.Anyone:
				case name == "nobody", name == "stranger":
					want = unauthenticated
				case op.Scope == generated.HostScope && at != privileged:
					want = elsewhere
				case name == "demo" && (at != "demo" || !op.Guest), name != "demo" && (!known || role < op.Role):
					want = denied
				}
				call := generated.Call{ID: "1", Door: security.DoorSOAP, Principal: who, Domain: at}
				if got := verdict(t, p.Judge(t.Context(), call, op)); got != want {
					t.Errorf("%s asks for %s of %s: %q; want %q", name, op.Name, at, got, want)
				}
			}
		}
	}
}

// What the derivation above would not notice: that the contract itself gives a right away.
func TestWhoMayDoWhat(t *testing.T) {
	t.Parallel()
	p := policy.New(roles, privileged)
	all := principals(t)
	for _, row := range []struct {
		op      *generated.Operation
		at      string
		allowed []string // beside the service itself
	}{
		{generated.OpGetTrustState, "demo", []string{"stranger", "demo", "vera", "otto", "ada", "unknown"}},
		{generated.OpGetAttributes, "demo", []string{"demo", "vera", "otto", "ada"}},
		{generated.OpGetAttributes, "web1", []string{"vera", "otto", "ada"}},
		{generated.OpSetAttributes, "demo", []string{"demo", "otto", "ada"}},
		{generated.OpSetAttributes, privileged, []string{"otto", "ada"}},
		{generated.OpResetAttributes, "demo", []string{"otto", "ada"}},
		{generated.OpResetSystem, "demo", []string{"demo", "otto", "ada"}},
		{generated.OpGetBootOptions, "demo", []string{"vera", "otto", "ada"}},
		{generated.OpSetBootOrder, "demo", []string{"otto", "ada"}},
		{generated.OpSetBootOverride, "demo", []string{"otto", "ada"}},
		{generated.OpListDomains, privileged, []string{"vera", "otto", "ada"}},
		{generated.OpCreateDomain, privileged, []string{"ada"}},
		{generated.OpDestroyDomain, "demo", nil},
		{generated.OpAddOperator, privileged, []string{"ada"}},
		{generated.OpInstallCertificateChain, privileged, []string{"ada"}},
		{generated.OpGetAuditLog, privileged, []string{"ada"}},
		{generated.OpBackupState, privileged, []string{"ada"}},
		{generated.OpRestoreState, privileged, []string{"ada"}},
	} {
		may := map[string]bool{"service": true}
		for _, name := range row.allowed {
			may[name] = true
		}
		for name, who := range all {
			call := generated.Call{ID: "1", Door: security.DoorSOAP, Principal: who, Domain: row.at}
			if err := p.Judge(t.Context(), call, row.op); (err == nil) != may[name] {
				t.Errorf("%s asks for %s of %s: %v", name, row.op.Name, row.at, err)
			}
		}
	}
}

func TestRefusalsSayWhich(t *testing.T) {
	t.Parallel()
	p := policy.New(roles, privileged)
	all := principals(t)
	for _, row := range []struct {
		who, at string
		op      *generated.Operation
		code    fault.Code
	}{
		{"nobody", "demo", generated.OpGetAttributes, fault.Code(security.CertificateMissing)},
		{"stranger", "demo", generated.OpGetAttributes, fault.Code(security.CertificateMissing)},
		{"unknown", "demo", generated.OpGetAttributes, fault.NotAnOperator},
		{"vera", "demo", generated.OpSetAttributes, fault.RoleTooSmall},
		{"demo", "web1", generated.OpGetAttributes, fault.OtherDomain},
		{"demo", "demo", generated.OpResetAttributes, fault.NotForGuests},
		{"ada", "demo", generated.OpAddOperator, fault.PrivilegedOnly},
	} {
		call := generated.Call{ID: "1", Door: security.DoorSOAP, Principal: all[row.who], Domain: row.at}
		var got, subject, operation string
		switch f := p.Judge(t.Context(), call, row.op).(type) {
		case *generated.AuthenticationRequiredFault:
			got = f.Code
		case *generated.AccessDeniedFault:
			got, subject, operation = f.Code, f.Subject, f.Operation
			if subject != all[row.who].String() || operation != row.op.Name || f.Rule == "" {
				t.Errorf("%s, %s: the refusal is of %q for %q by the rule %q", row.who, row.op.Name, subject, operation, f.Rule)
			}
		case *generated.NotFoundFault:
			got = f.Code
			if f.CorrectAddress != "/bios/"+privileged {
				t.Errorf("%s, %s: the right address is said to be %q", row.who, row.op.Name, f.CorrectAddress)
			}
		}
		if got != string(row.code) {
			t.Errorf("%s asks for %s of %s: %q; want %q", row.who, row.op.Name, row.at, got, row.code)
		}
	}
}

func TestARoleIsReadAtEveryRequest(t *testing.T) {
	t.Parallel()
	role := security.Admin
	p := policy.New(func(context.Context, string) (security.Role, error) { return role, nil }, privileged)
	call := generated.Call{ID: "1", Door: security.DoorSOAP, Principal: testca.Principal(t, "spiffe://biosv.test/person/ada"), Domain: "demo"}
	for _, row := range []struct {
		role security.Role
		want string
	}{{security.Admin, ""}, {security.Viewer, denied}, {security.NoRole, denied}, {security.Operator, ""}} {
		role = row.role
		if got := verdict(t, p.Judge(t.Context(), call, generated.OpSetAttributes)); got != row.want {
			t.Errorf("as %s: %q; want %q", row.role, got, row.want)
		}
	}
}

func TestRolesThatCannotBeReadLetNobodyPass(t *testing.T) {
	t.Parallel()
	broken := errors.New("the disk is gone")
	p := policy.New(func(context.Context, string) (security.Role, error) { return security.Admin, broken }, privileged)
	call := generated.Call{ID: "1", Door: security.DoorSOAP, Principal: testca.Principal(t, "spiffe://biosv.test/person/ada"), Domain: "demo"}
	if err := p.Judge(t.Context(), call, generated.OpGetAttributes); !errors.Is(err, broken) {
		t.Errorf("it passes: %v", err)
	}
}
