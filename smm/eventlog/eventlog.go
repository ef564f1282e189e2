// Package eventlog keeps what happened. Each domain has an event log, a ring of the newest records, for the
// people who manage it; the service has one audit log, which is never cut and whose rows hold each the digest
// of the one before (package security/audit). [Ledger] writes both in the transaction that changes the state
// they tell of; [Function] reads them.
package eventlog

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/hooklift/gowsdl/soap"

	"biosv/generated"
	"biosv/security/audit"
	"biosv/smm"
	"biosv/store"
)

// Capacity is how many records a domain's event log holds.
const Capacity = 1000

const defaultMost = 100

// record is an event as the store keeps it.
type record struct {
	At                           time.Time
	Severity, MessageID, Message string
	Actor, Door                  string
	Changes                      []smm.Change `json:",omitempty"`
}

// Ledger writes event log and audit log; it satisfies [smm.Ledger].
type Ledger struct {
	log      *audit.Log
	refusals *audit.Refusals
}

// NewLedger makes a Ledger over the audit log; refusals folds floods.
func NewLedger(log *audit.Log, refusals *audit.Refusals) *Ledger { return &Ledger{log, refusals} }

// Record writes an entry's events and its audit row.
func (l *Ledger) Record(tx *store.Tx, e smm.Entry) error {
	for _, event := range e.Events {
		if err := appendRecord(tx, e.Call.Domain, record{
			At: e.At, Severity: string(event.Severity), MessageID: event.MessageID, Message: event.Message,
			Actor: e.Call.Principal.String(), Door: string(e.Call.Door), Changes: event.Changes,
		}); err != nil {
			return err
		}
	}
	return l.log.Record(tx, row(e))
}

// Note writes a row for a request that changed nothing.
func (l *Ledger) Note(ctx context.Context, e smm.Entry) { l.refusals.Refuse(ctx, row(e)) }

func row(e smm.Entry) audit.Row {
	return audit.Row{
		Time: e.At, ID: e.Call.ID, Principal: e.Call.Principal.String(), Door: string(e.Call.Door), Phase: string(e.Call.Phase),
		Peer: e.Call.Channel.Peer, Domain: e.Call.Domain, Operation: e.Operation, Outcome: string(e.Outcome), Detail: e.Reason, Count: 1,
	}
}

func records(tx *store.Tx, domain string) *store.Bucket {
	return tx.Bucket("domain", domain, "eventlog")
}

func appendRecord(tx *store.Tx, domain string, r record) error {
	bucket := records(tx, domain)
	next := uint64(1)
	if k, _ := bucket.Last(); k != nil {
		next = binary.BigEndian.Uint64(k) + 1
	}
	value, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("write an event: %w", err)
	}
	bucket.Put(position(next), value)
	if next > Capacity {
		bucket.Delete(position(next - Capacity))
	}
	return nil
}

func position(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// Function answers [generated.EventlogPort].
type Function struct {
	bios *smm.BIOS
	log  *audit.Log
}

// New makes the function.
func New(b *smm.BIOS, log *audit.Log) *Function { return &Function{b, log} }

var _ generated.EventlogPort = (*Function)(nil)

// GetEventLog gives records after a position.
func (f *Function) GetEventLog(ctx context.Context, call generated.Call, request *generated.GetEventLogRequest) (*generated.GetEventLogReply, error) {
	reply := &generated.GetEventLogReply{LastPosition: new(generated.LogPosition)}
	from, most := bounds(request.After, request.MostRecords)
	err := f.bios.View(ctx, call, func(tx *smm.Tx) (err error) {
		bucket := records(tx.Store(), call.Domain)
		if k, _ := bucket.Last(); k != nil {
			*reply.LastPosition = generated.LogPosition(binary.BigEndian.Uint64(k))
		}
		bucket.Scan(position(from), func(k, v []byte) bool {
			var r record
			if err = json.Unmarshal(v, &r); err != nil {
				err = fmt.Errorf("event log of %s: %w", call.Domain, err)
				return false
			}
			reply.Record = append(reply.Record, r.message(binary.BigEndian.Uint64(k)))
			return len(reply.Record) < most
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return reply, nil
}

func (r record) message(n uint64) *generated.EventRecord {
	m := &generated.EventRecord{
		Position: new(generated.LogPosition(n)), RecordedAt: soap.CreateXsdDateTime(r.At.UTC(), true),
		EventSeverity: new(generated.EventSeverity(r.Severity)), MessageId: r.MessageID, Message: r.Message, Actor: r.Actor, Door: r.Door,
	}
	for _, c := range r.Changes {
		change := &generated.ValueChange{Name: c.Name}
		if c.Old != nil {
			change.OldValue = *c.Old
		}
		if c.New != nil {
			change.NewValue = *c.New
		}
		m.Change = append(m.Change, change)
	}
	return m
}

// GetAuditLog gives rows after a position, and says whether the chain is whole.
func (f *Function) GetAuditLog(ctx context.Context, call generated.Call, request *generated.GetAuditLogRequest) (*generated.GetAuditLogReply, error) {
	reply := &generated.GetAuditLogReply{LastPosition: new(generated.LogPosition)}
	from, most := bounds(request.After, request.MostRecords)
	err := f.bios.View(ctx, call, func(tx *smm.Tx) error {
		rows, err := f.log.List(tx.Store(), from, most)
		if err != nil {
			return err
		}
		for _, r := range rows {
			reply.Record = append(reply.Record, message(r))
		}
		last, err := f.log.Last(tx.Store())
		*reply.LastPosition = generated.LogPosition(last)
		reply.ChainIntact = f.log.Verify(tx.Store(), from, most) == nil
		return err
	})
	if err != nil {
		return nil, err
	}
	return reply, nil
}

func message(r audit.Row) *generated.AuditRecord {
	return &generated.AuditRecord{
		Position: new(generated.LogPosition(r.Seq)), RecordedAt: soap.CreateXsdDateTime(r.Time.UTC(), true), RequestId: r.ID,
		Actor: r.Principal, Door: r.Door, Phase: r.Phase, Peer: r.Peer, Domain: r.Domain, Operation: r.Operation,
		AuditOutcome: new(generated.AuditOutcome(r.Outcome)), Reason: r.Detail, RepeatCount: r.Count, Digest: fmt.Sprintf("%x", r.Hash),
	}
}

func bounds(after *generated.LogPosition, most *generated.RecordLimit) (from uint64, limit int) {
	from, limit = 1, defaultMost
	if after != nil {
		from = uint64(*after)
		from += min(1, math.MaxUint64-from) // after the last position that there can be, there is nothing
	}
	if most != nil {
		limit = int(*most)
	}
	return from, limit
}
