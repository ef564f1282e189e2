// Package thermal answers what the sensors and fans of a machine say (IPMI 2.0 section 41 for thresholds).
// It keeps nothing: every answer is observed when it is asked for.
package thermal

import (
	"context"

	"biosv/generated"
	"biosv/smm"
)

// Function answers [generated.ThermalPort].
type Function struct{ bios *smm.BIOS }

// New makes the function.
func New(b *smm.BIOS) *Function { return &Function{b} }

var _ generated.ThermalPort = (*Function)(nil)

// GetThermal reads the sensors.
func (f *Function) GetThermal(ctx context.Context, call generated.Call, _ *generated.GetThermalRequest) (*generated.GetThermalReply, error) {
	m, err := f.bios.Machine(call.Domain)
	if err != nil {
		return nil, err
	}
	reading, err := m.Thermal(ctx)
	if err != nil {
		return nil, err
	}
	return &generated.GetThermalReply{Thermal: reading}, nil
}
