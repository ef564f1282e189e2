package smm

import (
	"context"
	"fmt"
	"time"

	"biosv/fault"
	"biosv/generated"
	"biosv/store"
)

// actTime bounds what a machine may take to get a change under way.
const actTime = 30 * time.Second

// Action is an operation that a machine must carry out.
type Action struct {
	// Intend checks, in a transaction, that the operation makes sense now.
	Intend func(*Tx) error
	// Act lets the machine act, outside of any transaction.
	Act func(context.Context, Machine) error
	// Conclude writes what became of it; it is not called where Act failed. It may be nil.
	Conclude func(*Tx) error
}

// intent is what the store knows of an action under way.
type intent struct {
	ID, Operation, Actor, Door string
	At                         time.Time
}

// Act carries an action out: intent is committed, the machine acts, the outcome is committed. While the intent
// is open, other changes of the domain get ConflictFault and nothing waits. The machine and the outcome do not
// end with the caller's context: what has begun is concluded.
func (b *BIOS) Act(ctx context.Context, call generated.Call, op *generated.Operation, a Action) error {
	m, err := b.Machine(call.Domain)
	if err != nil {
		return err
	}
	if err := b.intend(ctx, call, op, a.Intend); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), actTime)
	defer cancel()
	failure := a.Act(ctx, m)
	if err := b.conclude(ctx, call, op, failure, a.Conclude); err != nil {
		return fmt.Errorf("%s was carried out, and its outcome could not be written: %w", op.Name, err)
	}
	return failure
}

func (b *BIOS) intend(ctx context.Context, call generated.Call, op *generated.Operation, check func(*Tx) error) error {
	return b.store.Update(ctx, func(s *store.Tx) error {
		tx, err := b.begin(s, call)
		if err != nil {
			return err
		}
		if err := tx.requireNoIntent(); err != nil {
			return err
		}
		if err := check(tx); err != nil {
			return err
		}
		in := intent{ID: call.ID, Operation: op.Name, Actor: call.Principal.String(), Door: string(call.Door), At: tx.Now}
		if err := store.PutJSON(intents(s), call.Domain, in); err != nil {
			return err
		}
		return tx.end(op.Name, Intended, "")
	})
}

func (b *BIOS) conclude(ctx context.Context, call generated.Call, op *generated.Operation, failure error, write func(*Tx) error) error {
	return b.store.Update(ctx, func(s *store.Tx) error {
		tx, err := b.begin(s, call)
		if err != nil {
			return err
		}
		intents(s).Delete([]byte(call.Domain))
		if failure != nil {
			tx.Event(Event{
				Severity: generated.EventSeverityWarning, MessageID: "BiosV.1.0.OperationFailed",
				Message: fmt.Sprintf("%s failed: %v", op.Name, fault.Of(failure, call.ID)),
			})
			return tx.end(op.Name, Failed, failure.Error())
		}
		if write != nil {
			if err := write(tx); err != nil {
				return err
			}
		}
		return tx.end(op.Name, Done, "")
	})
}

// reconcile closes the intents that were open when biosv ended. What their machines really are is observed by
// whoever asks; what is recorded is that nobody knows how far they came.
func (b *BIOS) reconcile(ctx context.Context, domains []Domain) error {
	for _, d := range domains {
		err := b.store.Update(ctx, func(s *store.Tx) error {
			in, open, err := store.GetJSON[intent](intents(s), d.Name)
			if err != nil || !open {
				return err
			}
			call := b.localCall(d.Name)
			call.ID = in.ID
			tx, err := b.begin(s, call)
			if err != nil {
				return err
			}
			intents(s).Delete([]byte(d.Name))
			message := fmt.Sprintf("%s, asked for by %s at %s, was under way when the service ended; the machine may or may not have carried it out.",
				in.Operation, in.Actor, in.At.Format(time.RFC3339))
			tx.Event(Event{Severity: generated.EventSeverityWarning, MessageID: "BiosV.1.0.OperationInterrupted", Message: message})
			return tx.end(in.Operation, Failed, message)
		})
		if err != nil {
			return fmt.Errorf("reconcile %s: %w", d.Name, err)
		}
	}
	return nil
}

// OpenIntents counts the actions under way in all domains.
func (tx *Tx) OpenIntents() (n int) {
	intents(tx.store).Scan(nil, func(_, _ []byte) bool { n++; return true })
	return n
}

func intents(s *store.Tx) *store.Bucket { return s.Bucket("intent") }

func (tx *Tx) requireNoIntent() error { return requireNoIntent(tx.store, tx.Domain.Name) }

func requireNoIntent(s *store.Tx, domain string) error {
	in, open, err := store.GetJSON[intent](intents(s), domain)
	if err != nil || !open {
		return err
	}
	return fault.Conflict(fault.OperationUnderWay, "%s, asked for by %s, is under way in %s: try again when it is done.", in.Operation, in.Actor, domain)
}
