package thermal_test

import (
	"errors"
	"testing"

	"biosv/generated"
	"biosv/internal/testbios"
	"biosv/smm/thermal"
)

func TestEveryAnswerIsObserved(t *testing.T) {
	t.Parallel()
	b := testbios.New(t, testbios.Options{})
	f := thermal.New(b.BIOS)
	ask := func(domain string) (*generated.GetThermalReply, error) {
		return f.GetThermal(t.Context(), b.LocalCall(domain), &generated.GetThermalRequest{})
	}
	if reply, err := ask("demo"); err != nil || reply.Thermal == nil {
		t.Errorf("%+v, %v", reply, err)
	}
	broken := errors.New("it does not answer")
	b.Fake("demo").Break(broken)
	if reply, err := ask("demo"); !errors.Is(err, broken) || reply != nil {
		t.Errorf("a machine that does not answer: %+v, %v", reply, err)
	}
	b.Fake("demo").Break(nil)
	if _, err := ask("demo"); err != nil {
		t.Errorf("when it answers again: %v", err)
	}
	var unknown *generated.NotFoundFault
	if _, err := ask("nowhere"); !errors.As(err, &unknown) {
		t.Errorf("a domain that is not there: %v", err)
	}
}
