package smm_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"biosv/fault"
	"biosv/generated"
	"biosv/internal/testbios"
	"biosv/security"
	"biosv/smm"
	"biosv/store"
)

// judge, answer and notes are what stands around a gate.
type judge func(generated.Call, *generated.Operation) error

func (j judge) Judge(_ context.Context, call generated.Call, op *generated.Operation) error {
	return j(call, op)
}

type answer func(generated.Call, generated.Request) (generated.Reply, error)

func (a answer) Handle(_ context.Context, call generated.Call, r generated.Request) (generated.Reply, error) {
	return a(call, r)
}

type notes []smm.Entry

func (n *notes) Record(*store.Tx, smm.Entry) error    { return errors.New("the gate changes no state") }
func (n *notes) Note(_ context.Context, e smm.Entry)  { *n = append(*n, e) }
func pass(generated.Call, *generated.Operation) error { return nil }
func newGate(j judge, a answer) (*smm.Gate, *notes, *log) {
	n, l := new(notes), new(log)
	return smm.NewGate(j, n, a, l.logger()), n, l
}

type log struct{ testbios.Text }

func (l *log) logger() *slog.Logger { return slog.New(slog.NewTextHandler(&l.Text, nil)) }

// good is a call that lacks nothing.
var good = generated.Call{ID: "id-1", Principal: security.Local(), Door: security.DoorSOAP, Domain: "demo"}

func TestTheGateRefusesACallThatLacksSomething(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*generated.Call){
		"everything": func(c *generated.Call) { *c = generated.Call{} },
		"id":         func(c *generated.Call) { c.ID = "" },
		"door":       func(c *generated.Call) { c.Door = "" },
		"domain":     func(c *generated.Call) { c.Domain = "" },
		"principal":  func(c *generated.Call) { c.Principal = security.Principal{} },
	} {
		g, noted, logged := newGate(
			func(generated.Call, *generated.Operation) error { t.Errorf("%s: it was judged", name); return nil },
			func(generated.Call, generated.Request) (generated.Reply, error) {
				t.Errorf("%s: it passed", name)
				return nil, nil
			},
		)
		call := good
		spoil(&call)
		reply, err := g.Handle(t.Context(), call, &generated.SetAttributesRequest{})
		if _, ok := err.(*generated.InternalFault); !ok || reply != nil {
			t.Errorf("without %s: %v, %v", name, reply, err)
		}
		if len(*noted) != 1 || (*noted)[0].Outcome != smm.Failed || !strings.Contains(logged.String(), "reached the gate") {
			t.Errorf("without %s: noted %+v, logged %q", name, *noted, logged)
		}
	}
}

func TestTheGateRecordsWhatIsRefused(t *testing.T) {
	t.Parallel()
	refusal := fault.AccessDenied(fault.RoleTooSmall, "somebody", "SetAttributes", "rule", "you may not")
	for _, request := range []generated.Request{&generated.SetAttributesRequest{}, &generated.GetAttributesRequest{}} {
		g, noted, _ := newGate(func(call generated.Call, op *generated.Operation) error {
			if call != good || op != request.Operation() {
				t.Errorf("judged is %+v, %s", call, op.Name)
			}
			return refusal
		}, func(generated.Call, generated.Request) (generated.Reply, error) {
			t.Error("it passed")
			return nil, nil
		})
		reply, err := g.Handle(t.Context(), good, request)
		if reply != nil || err != refusal {
			t.Errorf("%v, %v", reply, err)
		}
		want := smm.Entry{Call: good, Operation: request.Operation().Name, Outcome: smm.Refused, Reason: "AccessDeniedFault: you may not"}
		if len(*noted) != 1 || fmt.Sprint((*noted)[0]) != fmt.Sprint(want) {
			t.Errorf("noted is %+v; want %+v", *noted, want)
		}
	}
}

func TestTheGateLetsAnAnswerPass(t *testing.T) {
	t.Parallel()
	want := &generated.GetAttributesReply{}
	g, noted, _ := newGate(pass, func(call generated.Call, _ generated.Request) (generated.Reply, error) {
		if call != good {
			t.Errorf("passed was %+v", call)
		}
		return want, nil
	})
	if reply, err := g.Handle(t.Context(), good, &generated.GetAttributesRequest{}); reply != generated.Reply(want) || err != nil || len(*noted) != 0 {
		t.Errorf("%v, %v, noted %v", reply, err, *noted)
	}
}

func TestEveryErrorThatLeavesTheGateIsAFault(t *testing.T) {
	t.Parallel()
	conflict := fault.Conflict(fault.LastAdmin, "no")
	for _, row := range []struct {
		name   string
		fail   func() error
		fault  string
		code   fault.Code
		logged string // what the log must say; empty for nothing
	}{
		{"a fault", func() error { return conflict }, "ConflictFault", fault.LastAdmin, ""},
		{"a fault in a chain", func() error { return fmt.Errorf("doing this: %w", conflict) }, "ConflictFault", fault.LastAdmin, ""},
		{"a full disk", func() error { return fmt.Errorf("commit: %w", store.ErrFull) }, "UnavailableFault", fault.StorageFull, ""},
		{"a store that is closed", func() error { return store.ErrClosed }, "UnavailableFault", fault.ShuttingDown, ""},
		{"a time that ran out", func() error { return context.DeadlineExceeded }, "UnavailableFault", fault.TimedOut, ""},
		{"a caller that went away", func() error { return context.Canceled }, "UnavailableFault", fault.TimedOut, ""},
		{"a damaged state", func() error { return store.ErrCorrupt }, "InternalFault", fault.InternalError, "the state is damaged"},
		{"any error", func() error { return errors.New("a secret detail") }, "InternalFault", fault.InternalError, "a secret detail"},
		{"a panic", func() error { panic("a secret panic") }, "InternalFault", fault.InternalError, "a secret panic"},
	} {
		t.Run(row.name, func(t *testing.T) {
			for _, request := range []generated.Request{&generated.SetAttributesRequest{}, &generated.GetAttributesRequest{}} {
				g, noted, logged := newGate(pass, func(generated.Call, generated.Request) (generated.Reply, error) {
					return &generated.GetAttributesReply{}, row.fail()
				})
				reply, err := g.Handle(t.Context(), good, request)
				f, ok := err.(generated.Fault)
				if !ok || reply != nil || f.Info().Name != row.fault {
					t.Fatalf("%v, %T: %v", reply, err, err)
				}
				if internal, ok := f.(*generated.InternalFault); ok && (internal.IncidentId != good.ID || strings.Contains(internal.Message, "secret")) {
					t.Errorf("the caller is told %+v", internal)
				}
				if text := logged.String(); (text != "") != (row.logged != "") || !strings.Contains(text, row.logged) || row.logged != "" && !strings.Contains(text, good.ID) {
					t.Errorf("the log says %q", text)
				}
				changes := request.Operation().Effect == generated.Change
				if len(*noted) == 1 != changes || changes && ((*noted)[0].Outcome != smm.Failed || !strings.HasPrefix((*noted)[0].Reason, row.fault)) {
					t.Errorf("%s: noted is %+v", request.Operation().Name, *noted)
				}
			}
		})
	}
}
