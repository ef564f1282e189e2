// Package inventory answers what a machine consists of (SMBIOS, DMTF DSP0134). It keeps nothing: every answer
// is observed when it is asked for, and what cannot be observed is absent.
package inventory

import (
	"context"

	"biosv/generated"
	"biosv/smm"
)

// Function answers [generated.InventoryPort].
type Function struct{ bios *smm.BIOS }

// New makes the function.
func New(b *smm.BIOS) *Function { return &Function{b} }

var _ generated.InventoryPort = (*Function)(nil)

// GetSystemInventory observes the machine.
func (f *Function) GetSystemInventory(ctx context.Context, call generated.Call, _ *generated.GetSystemInventoryRequest) (*generated.GetSystemInventoryReply, error) {
	m, err := f.bios.Machine(call.Domain)
	if err != nil {
		return nil, err
	}
	inventory, err := m.Inventory(ctx)
	if err != nil {
		return nil, err
	}
	return &generated.GetSystemInventoryReply{Inventory: inventory}, nil
}
