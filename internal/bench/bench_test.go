package bench

import (
	"context"
	"log/slog"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"biosv/envelope"
	"biosv/envelope/xmltext"
	"biosv/generated"
	"biosv/internal/testca"
	"biosv/machine/sim"
	"biosv/security"
	"biosv/security/audit"
	"biosv/security/policy"
	"biosv/smm"
	"biosv/smm/attribute"
	"biosv/smm/domain"
	"biosv/smm/eventlog"
	"biosv/smm/operator"
	"biosv/store"
)

// gate is the gate with the functions that a benchmark asks, over a store on disk, and a call of an admin's.
func gate(b *testing.B) (generated.Port, generated.Call) {
	b.Helper()
	s := open(b)
	log := slog.New(slog.DiscardHandler)
	rows := audit.New(time.Now)
	refusals := audit.NewRefusals(rows, s, log)
	b.Cleanup(refusals.Close)
	ledger := eventlog.NewLedger(rows, refusals)
	bios := smm.New(smm.Config{Store: s, Ledger: ledger, Log: log, Machines: map[generated.DomainKind]smm.Opener{
		generated.DomainKindPrivileged: sim.Open, generated.DomainKindSimulated: sim.Open,
	}})
	b.Cleanup(func() { bios.Close() })
	functions := generated.Functions{AttributePort: attribute.New(bios), DomainPort: domain.New(bios, nil), OperatorPort: operator.New(bios, nil, "bench")}
	must(b, bios.EnsurePrivileged(b.Context(), "6f0c8e1a-4f7e-4c57-9d3b-0b1f8a8f5c11"))
	must(b, bios.Start(b.Context()))
	local := bios.LocalCall(smm.PrivilegedDomain)
	_, err := functions.AddOperator(b.Context(), local, &generated.AddOperatorRequest{Name: new(generated.OperatorName("admin")), OperatorRole: new(generated.OperatorRoleAdmin)})
	must(b, err)
	_, err = functions.CreateDomain(b.Context(), local, &generated.CreateDomainRequest{Name: new(generated.DomainName("demo")), DomainKind: new(generated.DomainKindSimulated)})
	must(b, err)
	role := func(ctx context.Context, name string) (role security.Role, err error) {
		err = s.View(ctx, func(tx *store.Tx) error {
			role, err = operator.Role(tx, name)
			return err
		})
		return role, err
	}
	call := local
	call.Principal, call.Door, call.Domain = testca.Principal(b, security.PersonID("bench", "admin").String()), security.DoorSOAP, "demo"
	return generated.HandlerPort(smm.NewGate(policy.New(role, smm.PrivilegedDomain), ledger, generated.PortHandler(functions), log)), call
}

func open(b *testing.B) *store.Store {
	b.Helper()
	s, err := store.Open(filepath.Join(b.TempDir(), "state.db"), store.Options{})
	must(b, err)
	b.Cleanup(func() { s.Close() })
	return s
}

func must(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// The requests that the table measures, from the gate to the state and back.
func BenchmarkGateGetAttributes(b *testing.B) {
	port, call := gate(b)
	for _, c := range []struct {
		name    string
		request generated.GetAttributesRequest
	}{{"One", generated.GetAttributesRequest{Name: []string{"AssetTag"}}}, {"All", generated.GetAttributesRequest{}}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, err := port.GetAttributes(b.Context(), call, &c.request)
				must(b, err)
			}
		})
	}
}

// One attribute that changes at once (intent, machine, outcome) and one that becomes pending (one commit). The time
// is the disk's.
func BenchmarkGateSetAttributes(b *testing.B) {
	port, call := gate(b)
	for _, c := range []struct {
		name, attribute string
		values          [2]string
	}{{"Immediate", "AssetTag", [2]string{"rack-7", "rack-8"}}, {"Pending", "MemoryMode", [2]string{"Mirrored", "Independent"}}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				_, err := port.SetAttributes(b.Context(), call, &generated.SetAttributesRequest{
					Attribute: []*generated.AttributeValue{{Name: c.attribute, NewValue: []string{c.values[n%2]}}},
				})
				must(b, err)
			}
		})
	}
}

// messages are a request and replies as they are on the wire.
func messages(b *testing.B) map[string]generated.Message {
	b.Helper()
	port, call := gate(b)
	one, err := port.GetAttributes(b.Context(), call, &generated.GetAttributesRequest{Name: []string{"AssetTag"}})
	must(b, err)
	all, err := port.GetAttributes(b.Context(), call, &generated.GetAttributesRequest{})
	must(b, err)
	set := &generated.SetAttributesRequest{}
	for n := range 20 {
		set.Attribute = append(set.Attribute, &generated.AttributeValue{Name: "ProcessorPowerManagement" + strconv.Itoa(n), NewValue: []string{"Maximum"}})
	}
	return map[string]generated.Message{
		"GetAttributes": &generated.GetAttributesRequest{Name: []string{"AssetTag"}}, "SetAttributes20": set,
		"GetAttributesReply1": one, "GetAttributesReplyAll": all,
	}
}

func write(b *testing.B, w *xmltext.Writer, m generated.Message) {
	envelope.Begin(w, envelope.SOAP12, nil)
	generated.Encode(w, m)
	envelope.End(w)
	must(b, w.Err())
}

func BenchmarkEncode(b *testing.B) {
	for name, m := range messages(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				w := xmltext.NewWriter()
				write(b, w, m)
				b.SetBytes(int64(len(w.Bytes())))
				w.Release()
			}
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	for name, m := range messages(b) {
		w := xmltext.NewWriter()
		defer w.Release()
		write(b, w, m)
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(w.Bytes())))
			b.ReportAllocs()
			for b.Loop() {
				r := xmltext.NewReader(w.Bytes(), xmltext.DefaultLimits)
				e, err := envelope.Read(r)
				must(b, err)
				if _, ok := m.(generated.Request); ok {
					_, err = generated.DecodeRequest(r)
				} else {
					_, err = generated.DecodeReply(r, generated.OpGetAttributes)
				}
				must(b, err)
				must(b, e.Finish(r))
				r.Release()
			}
		})
	}
}

// A commit is a write and a flush of the disk; those that come at the same time share one.
func BenchmarkCommit(b *testing.B) {
	s := open(b)
	commit := func(ctx context.Context) error {
		return s.Update(ctx, func(tx *store.Tx) error {
			tx.Bucket("bench").Put([]byte("key"), strconv.AppendUint(nil, tx.NextSequence("bench"), 10))
			return nil
		})
	}
	b.Run("Alone", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			must(b, commit(b.Context()))
		}
	})
	b.Run("EightAtOnce", func(b *testing.B) {
		b.ReportAllocs()
		b.SetParallelism(8)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if err := commit(b.Context()); err != nil {
					b.Error(err)
				}
			}
		})
	})
}
