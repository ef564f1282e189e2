package sim

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"biosv/envelope/xmltext"
	"biosv/generated"
)

// What the machine shows is what the contract's schema allows, and comes through the codec whole.
func TestAnswersComeThroughTheContractWhole(t *testing.T) {
	t.Parallel()
	m, _, _ := running(t, nil)
	off, _, _ := opened(t, nil)
	for _, row := range []struct {
		op    *generated.Operation
		reply generated.Reply
	}{
		{generated.OpGetAttributeRegistry, new(m.Registry())},
		{generated.OpGetSystemInventory, &generated.GetSystemInventoryReply{Inventory: inventoryOf(t, m)}},
		{generated.OpGetSystemInventory, &generated.GetSystemInventoryReply{Inventory: inventoryOf(t, off)}},
		{generated.OpGetThermal, &generated.GetThermalReply{Thermal: thermalOf(t, m)}},
		{generated.OpGetThermal, &generated.GetThermalReply{Thermal: thermalOf(t, off)}},
	} {
		w := xmltext.NewWriter()
		generated.Encode(w, row.reply)
		if err := w.Err(); err != nil {
			t.Errorf("%s: %v", row.op.Name, err)
			continue
		}
		r := xmltext.NewReader(w.Bytes(), xmltext.DefaultLimits)
		r.SetNamespace(generated.Namespace)
		r.Root()
		read, err := generated.DecodeReply(r, row.op)
		if err != nil {
			t.Errorf("%s: %v", row.op.Name, err)
			continue
		}
		if d := cmp.Diff(row.reply, read, timesEqual, cmpopts.EquateEmpty()); d != "" {
			t.Errorf("%s came through changed:\n%s", row.op.Name, d)
		}
	}
}
