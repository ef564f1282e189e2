// Package operator keeps who may manage domains, and as what. Roles live here, in the store, and not in
// certificates, so that they can be taken away: the policy asks [Function.Role] at every request.
package operator

import (
	"context"
	"encoding/pem"
	"fmt"
	"strings"
	"time"

	"github.com/hooklift/gowsdl/soap"

	"biosv/fault"
	"biosv/generated"
	"biosv/security"
	"biosv/smm"
	"biosv/store"
)

// MostOperators bounds how many operators a service keeps.
const MostOperators = 4096

// Issuer issues certificates to operators.
type Issuer interface {
	// IssueOperator checks a PKCS #10 request (DER) and gives the certificate for its key and the chain, PEM.
	// What is wrong with a request is a fault of the contract.
	IssueOperator(ctx context.Context, name string, request []byte) (chainPEM []byte, err error)
}

// account is an operator as the store keeps it, under its name.
type account struct {
	Role    generated.OperatorRole
	AddedAt time.Time
	AddedBy string
}

var roles = map[generated.OperatorRole]security.Role{
	generated.OperatorRoleViewer:   security.Viewer,
	generated.OperatorRoleOperator: security.Operator,
	generated.OperatorRoleAdmin:    security.Admin,
}

// Function answers [generated.OperatorPort].
type Function struct {
	bios        *smm.BIOS
	issuer      Issuer
	trustDomain string
}

// New makes the function.
func New(b *smm.BIOS, issuer Issuer, trustDomain string) *Function {
	return &Function{b, issuer, trustDomain}
}

var _ generated.OperatorPort = (*Function)(nil)

const bucket = "operator"

// accounts are read at every request of a person's.
var accounts store.Memo[account]

// Role gives the role that an operator has in a transaction; [security.NoRole] for whoever is none.
func Role(tx *store.Tx, name string) (security.Role, error) {
	a, ok, err := accounts.Get(tx.Bucket("shared", bucket), name)
	if err != nil || !ok {
		return security.NoRole, err
	}
	return roles[a.Role], nil
}

// ListOperators lists the operators by name.
func (f *Function) ListOperators(ctx context.Context, call generated.Call, _ *generated.ListOperatorsRequest) (*generated.ListOperatorsReply, error) {
	reply := &generated.ListOperatorsReply{}
	err := f.bios.View(ctx, call, func(tx *smm.Tx) error {
		return f.each(tx, func(name string, a account) { reply.Operator = append(reply.Operator, f.message(name, a)) })
	})
	if err != nil {
		return nil, err
	}
	return reply, nil
}

func (f *Function) each(tx *smm.Tx, fn func(name string, a account)) (err error) {
	operators := tx.Shared(bucket)
	operators.Scan(nil, func(k, _ []byte) bool {
		var a account
		if a, _, err = store.GetJSON[account](operators, string(k)); err != nil {
			return false
		}
		fn(string(k), a)
		return true
	})
	return err
}

func (f *Function) message(name string, a account) *generated.OperatorAccount {
	return &generated.OperatorAccount{
		Name: new(generated.OperatorName(name)), Identity: security.PersonID(f.trustDomain, name).String(), OperatorRole: new(a.Role),
		AddedAt: soap.CreateXsdDateTime(a.AddedAt.UTC(), true), AddedBy: a.AddedBy,
	}
}

// AddOperator adds an operator or changes its role, and issues a certificate for a request.
func (f *Function) AddOperator(ctx context.Context, call generated.Call, request *generated.AddOperatorRequest) (*generated.AddOperatorReply, error) {
	name, role := string(*request.Name), *request.OperatorRole
	reply := &generated.AddOperatorReply{}
	// The certificate is made first: without its role it opens nothing, and a request that is wrong adds nobody.
	if request.RequestPem != "" {
		der, err := decodeRequest(request.RequestPem)
		if err != nil {
			return nil, err
		}
		chain, err := f.issuer.IssueOperator(ctx, name, der)
		if err != nil {
			return nil, err
		}
		reply.CertificatePem = string(chain)
	}
	err := f.bios.Change(ctx, call, generated.OpAddOperator, func(tx *smm.Tx) error {
		before, known, err := store.GetJSON[account](tx.Shared(bucket), name)
		if err != nil {
			return err
		}
		if known && before.Role == generated.OperatorRoleAdmin && role != generated.OperatorRoleAdmin {
			if err := f.requireAnotherAdmin(tx, name); err != nil {
				return err
			}
		}
		count := 0
		if err := f.each(tx, func(string, account) { count++ }); err != nil {
			return err
		}
		if !known && count >= MostOperators {
			return fault.LimitExceeded(fault.TooMany, "operators", MostOperators, "There are %d operators; no more are kept. Remove one that is not needed.", count)
		}
		after := account{Role: role, AddedAt: tx.Now, AddedBy: call.Principal.String()}
		if known {
			after.AddedAt, after.AddedBy = before.AddedAt, before.AddedBy
		}
		change := smm.Change{Name: "Operator/" + name, New: new(string(role))}
		if known {
			change.Old = new(string(before.Role))
		}
		tx.Event(smm.Event{
			Severity: generated.EventSeverityOk, MessageID: "BiosV.1.0.OperatorChanged",
			Message: fmt.Sprintf("The operator %s has the role %s.", name, role), Changes: []smm.Change{change},
		})
		reply.Operator = f.message(name, after)
		return store.PutJSON(tx.Shared(bucket), name, after)
	})
	if err != nil {
		return nil, err
	}
	return reply, nil
}

// RemoveOperator takes an operator's role away.
func (f *Function) RemoveOperator(ctx context.Context, call generated.Call, request *generated.RemoveOperatorRequest) (*generated.RemoveOperatorReply, error) {
	name := string(*request.Name)
	err := f.bios.Change(ctx, call, generated.OpRemoveOperator, func(tx *smm.Tx) error {
		before, known, err := store.GetJSON[account](tx.Shared(bucket), name)
		if err != nil {
			return err
		}
		if !known {
			return fault.NotFound(fault.UnknownOperator, "/RemoveOperator/Name", name, "There is no operator %q; ListOperators names those that are.", name)
		}
		if before.Role == generated.OperatorRoleAdmin {
			if err := f.requireAnotherAdmin(tx, name); err != nil {
				return err
			}
		}
		tx.Event(smm.Event{
			Severity: generated.EventSeverityOk, MessageID: "BiosV.1.0.OperatorRemoved", Message: "The operator " + name + " was removed.",
			Changes: []smm.Change{{Name: "Operator/" + name, Old: new(string(before.Role))}},
		})
		tx.Shared(bucket).Delete([]byte(name))
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &generated.RemoveOperatorReply{Name: request.Name}, nil
}

func (f *Function) requireAnotherAdmin(tx *smm.Tx, name string) error {
	others := 0
	if err := f.each(tx, func(n string, a account) {
		if n != name && a.Role == generated.OperatorRoleAdmin {
			others++
		}
	}); err != nil {
		return err
	}
	if others == 0 {
		return fault.Conflict(fault.LastAdmin, "%s is the last admin: make another one first.", name)
	}
	return nil
}

func decodeRequest(text string) ([]byte, error) {
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE REQUEST" || strings.TrimSpace(string(rest)) != "" {
		return nil, fault.InvalidRequest(fault.InvalidCertificate, "/AddOperator/RequestPem", "",
			"RequestPem is not one PEM block of type CERTIFICATE REQUEST (PKCS #10).")
	}
	return block.Bytes, nil
}
