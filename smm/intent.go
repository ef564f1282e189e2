package smm

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
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
// end with the caller's context: what has begun is concluded. An outcome for which the disk has no room is owed, and
// written before the next change.
func (b *BIOS) Act(ctx context.Context, call generated.Call, op *generated.Operation, a Action) error {
	m, err := b.Machine(call.Domain)
	if err != nil {
		return err
	}
	if err := b.intend(ctx, call, op, a.Intend); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	failure := b.act(ctx, m, op, a)
	conclude := func(ctx context.Context) error { return b.conclude(ctx, call, op, failure, a.Conclude) }
	err = conclude(ctx)
	if err != nil && !errors.Is(err, store.ErrFull) {
		// The function's own mistake, for which the intent is not to stay open.
		failure = fmt.Errorf("%s was carried out, and its outcome could not be written: %w", op.Name, err)
		err = conclude(ctx)
	}
	switch {
	case err == nil && failure == nil:
		return nil
	case err == nil:
		return &recorded{failure}
	}
	b.owe(call.Domain, conclude)
	if failure != nil {
		return failure
	}
	return fault.Unavailable(fault.StorageFull, time.Minute, "%s was carried out, and the disk that holds the state is full: what became of it will be written when there is room.", op.Name)
}

// act lets the machine act, in its time.
func (b *BIOS) act(ctx context.Context, m Machine, op *generated.Operation, a Action) error {
	ctx, cancel := context.WithTimeout(ctx, actTime)
	defer cancel()
	return contain(op, func() error { return a.Act(ctx, m) })
}

// recorded is a failure that the audit log tells of already.
type recorded struct{ error }

func (r *recorded) Unwrap() error { return r.error }

// owe keeps what is to be written of a domain when the disk has room.
func (b *BIOS) owe(domain string, conclude func(context.Context) error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.owed[domain] = conclude
}

// settle writes what is owed, of every domain. Its error is that of the domain named.
func (b *BIOS) settle(ctx context.Context, domain string) (err error) {
	b.mu.RLock()
	var owing []string
	if len(b.owed) > 0 { // which is seldom, and asked at every request
		owing = slices.Collect(maps.Keys(b.owed))
	}
	b.mu.RUnlock()
	for _, d := range owing {
		b.mu.Lock()
		conclude, still := b.owed[d]
		delete(b.owed, d)
		b.mu.Unlock()
		if !still {
			continue
		}
		if e := conclude(ctx); e != nil {
			b.owe(d, conclude)
			if d == domain {
				err = e
			}
		}
	}
	return err
}

func (b *BIOS) intend(ctx context.Context, call generated.Call, op *generated.Operation, check func(*Tx) error) error {
	if err := b.settle(ctx, call.Domain); err != nil {
		return err
	}
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
func (b *BIOS) OpenIntents(ctx context.Context) (n int, err error) {
	if err := b.settle(ctx, ""); err != nil {
		return 0, err
	}
	err = b.store.View(ctx, func(s *store.Tx) error {
		n = intents(s).Len()
		return nil
	})
	return n, err
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
