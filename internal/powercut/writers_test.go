//go:build guest

package powercut

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"biosv/generated"
	"biosv/internal/guest"
)

// writers is how many clients write at a time, each to domains of its own, so that none gets in another's way.
const writers = 8

// A writer does one operation after the other, in an order that is settled: so the state after any number of them
// is known, and what is found after a power cut must be one of these states. Operation 0 creates the writer's
// domain; of ten that follow, one creates another domain, one destroys that, and eight set attributes.
type writer struct {
	domain string

	// Each is there when the operation's answer is: acknowledged operations are those below len(acks).
	acks []ack
	// The operation len(acks) may or may not have been carried out, if it was asked for.
	asked bool
}

// ack is what is known of an operation when its answer comes.
type ack struct {
	version uint64 // of the domain, as the answer to SetAttributes told
	logged  int    // requests in the disk's log, where there is one
}

type kind int

const (
	create kind = iota
	destroy
	set
)

// operation says what the operation of a number is, and upon which domain.
func (w *writer) operation(n int) (kind, string) {
	switch {
	case n == 0:
		return create, w.domain
	case n%10 == 5:
		return create, fmt.Sprintf("%s-%d", w.domain, n)
	case n%10 == 8:
		return destroy, fmt.Sprintf("%s-%d", w.domain, n-3)
	}
	return set, w.domain
}

// token is the value that operation n sets; every attribute that it sets is made of it.
func (w *writer) token(n int) string { return fmt.Sprintf("%s/%d", w.domain, n) }

// delay is the pending value that goes with a token: BootDelaySeconds takes 5 to 60 in steps of 5, and is 0 first.
func delay(n int) string { return strconv.Itoa(5 + 5*(n%12)) }

// do asks for operation n.
func (w *writer) do(ctx context.Context, port generated.Port, n int) (version uint64, err error) {
	switch what, domain := w.operation(n); what {
	case create:
		_, err = port.CreateDomain(ctx, generated.Call{}, &generated.CreateDomainRequest{
			Name: new(generated.DomainName(domain)), DomainKind: new(generated.DomainKindSimulated), Description: w.token(n),
		})
	case destroy:
		_, err = port.DestroyDomain(ctx, generated.Call{}, &generated.DestroyDomainRequest{Name: new(generated.DomainName(domain))})
	case set:
		var reply *generated.SetAttributesReply
		reply, err = port.SetAttributes(ctx, generated.Call{Domain: domain}, &generated.SetAttributesRequest{Attribute: []*generated.AttributeValue{
			{Name: assetTag, NewValue: []string{w.token(n)}},
			{Name: location, NewValue: []string{w.token(n)}},
			{Name: bootDelay, NewValue: []string{delay(n)}},
		}})
		if err == nil {
			version = uint64(*reply.Version)
		}
	}
	return version, err
}

// The attributes that a writer sets: two that are in force at once, one that waits.
const (
	assetTag  = "AssetTag"
	location  = "Location"
	bootDelay = "BootDelaySeconds"
)

// write does operations until the context ends, which leaves none unanswered, or the service is gone. A fault of the
// contract is an error: nothing that a writer asks for is to be refused. logged tells how long the disk's log is, and
// may be nil.
func (w *writer) write(ctx context.Context, port generated.Port, logged func() (int, error), acknowledged *atomic.Int64) error {
	for ctx.Err() == nil {
		n := len(w.acks)
		w.asked = true
		version, err := w.do(context.WithoutCancel(ctx), port, n)
		if f, ok := errors.AsType[generated.Fault](err); ok {
			return fmt.Errorf("%s: operation %d: %s: %w", w.domain, n, f.Info().Name, err)
		} else if err != nil {
			return nil // the power went, and with it the answer
		}
		a := ack{version: version}
		if logged != nil {
			if a.logged, err = logged(); err != nil {
				return err
			}
		}
		w.acks = append(w.acks, a)
		w.asked = false
		acknowledged.Add(1)
	}
	return nil
}

// team are the writers.
type team struct {
	writers      []*writer
	acknowledged atomic.Int64 // operations, of all of them
}

func newTeam() *team {
	l := &team{writers: make([]*writer, writers)}
	for i := range l.writers {
		l.writers[i] = &writer{domain: fmt.Sprintf("w%d", i)}
	}
	return l
}

// write has all of them write until the context ends or the service is gone; connect makes each a connection.
func (l *team) write(ctx context.Context, t *testing.T, connect func() generated.Port, logged func() (int, error)) {
	t.Helper()
	var group sync.WaitGroup
	for _, w := range l.writers {
		port := connect()
		group.Go(func() {
			if err := w.write(ctx, port, logged, &l.acknowledged); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
}

// cut has them write until the power is cut: some time after so many operations were acknowledged.
func (l *team) cut(t *testing.T, g *guest.Guest, connect func() generated.Port, logged func() (int, error), least int64, after time.Duration) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var power sync.WaitGroup
	power.Go(func() {
		for until := l.acknowledged.Load() + least; l.acknowledged.Load() < until && ctx.Err() == nil; {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(after)
		g.Kill()
	})
	l.write(ctx, t, connect, logged)
	stop() // where they ended sooner, which is an error that they told
	power.Wait()
}

// bounds says how many operations of a writer must be there, and how many may.
type bounds func(*writer) (least, most int)

// now are the bounds when the writers have stopped.
func now(w *writer) (least, most int) {
	least = len(w.acks)
	if w.asked {
		return least, least + 1
	}
	return least, least
}

// when are the bounds when a disk had done so many requests of its log.
func when(requests int) bounds {
	return func(w *writer) (least, most int) {
		for _, a := range w.acks {
			if a.logged > requests {
				break
			}
			least++
		}
		_, most = now(w)
		return least, most
	}
}
