// Package smm is the virtual high-privilege mode of BIOS.v: where requests of guests and tools are judged and
// carried out, instead of in the system management mode of their own machine. It holds no BIOS function; those
// are in its subpackages, one a function, and each answers its slice of the contract's Port.
//
// A request goes one way. [Gate] judges it: who asks, for what, of which domain. Behind it stands the Port that
// the functions make together. [BIOS] is what a function works with: state, which is read and changed in transactions
// together with event log and audit row, and machines, which act outside of them between a committed intent
// and a committed outcome. Nothing reaches a function except through the gate.
package smm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"

	"biosv/fault"
	"biosv/generated"
	"biosv/store"
)

// Judge says whether a request may pass. Its error is the contract's fault that tells the caller why not.
type Judge interface {
	Judge(ctx context.Context, call generated.Call, op *generated.Operation) error
}

// Ledger keeps what was done and what was refused.
type Ledger interface {
	// Record writes an entry in the transaction that changes the state it tells of.
	Record(tx *store.Tx, e Entry) error
	// Note writes an entry that stands for no change: a refusal or a failure. It may fold a flood of them into
	// one row with a count, and reports its own failure to the log.
	Note(ctx context.Context, e Entry)
}

// Gate is the one way in. It refuses a call without identity, id or domain, asks the [Judge], records refusals
// and failures, and sees to it that every error that leaves is a fault of the contract.
type Gate struct {
	judge  Judge
	ledger Ledger
	next   generated.Handler
	log    *slog.Logger
}

// NewGate makes the gate before a port.
func NewGate(judge Judge, ledger Ledger, next generated.Handler, log *slog.Logger) *Gate {
	return &Gate{judge: judge, ledger: ledger, next: next, log: log}
}

// Handle judges a request and lets it pass.
func (g *Gate) Handle(ctx context.Context, call generated.Call, request generated.Request) (generated.Reply, error) {
	op := request.Operation()
	if call.ID == "" || call.Door == "" || call.Domain == "" || call.Principal.Kind() == 0 {
		return nil, g.fail(ctx, call, op, errors.New("a call without id, door, domain or principal reached the gate"))
	}
	if err := g.judge.Judge(ctx, call, op); err != nil {
		f := g.asFault(call, op, err)
		g.ledger.Note(ctx, Entry{Call: call, Operation: op.Name, Outcome: Refused, Reason: reason(f)})
		return nil, f
	}
	reply, err := g.pass(ctx, call, request)
	if err != nil {
		return nil, g.fail(ctx, call, op, err)
	}
	return reply, nil
}

// pass lets a request to the function that answers it, whose panic is an error like another.
func (g *Gate) pass(ctx context.Context, call generated.Call, request generated.Request) (reply generated.Reply, err error) {
	err = contain(request.Operation(), func() (err error) {
		reply, err = g.next.Handle(ctx, call, request)
		return err
	})
	return reply, err
}

// contain makes a panic an error like another.
func contain(op *generated.Operation, fn func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s panicked: %v\n%s", op.Name, p, debug.Stack())
		}
	}()
	return fn()
}

func (g *Gate) fail(ctx context.Context, call generated.Call, op *generated.Operation, err error) error {
	f := g.asFault(call, op, err)
	var told *recorded
	if op.Effect == generated.Change && !errors.As(err, &told) {
		g.ledger.Note(ctx, Entry{Call: call, Operation: op.Name, Outcome: Failed, Reason: reason(f)})
	}
	return f
}

func (g *Gate) asFault(call generated.Call, op *generated.Operation, err error) generated.Fault {
	f := fault.Of(err, call.ID)
	if _, internal := f.(*generated.InternalFault); internal {
		g.log.Error("request failed", "id", call.ID, "operation", op.Name, "domain", call.Domain, "error", err)
	}
	return f
}

func reason(f generated.Fault) string { return f.Info().Name + ": " + f.Error() }
