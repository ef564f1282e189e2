package inventory_test

import (
	"errors"
	"testing"

	"biosv/generated"
	"biosv/internal/testbios"
	"biosv/smm/inventory"
)

func TestEveryAnswerIsObserved(t *testing.T) {
	t.Parallel()
	b := testbios.New(t, testbios.Options{})
	f := inventory.New(b.BIOS)
	ask := func(domain string) (*generated.GetSystemInventoryReply, error) {
		return f.GetSystemInventory(t.Context(), b.LocalCall(domain), &generated.GetSystemInventoryRequest{})
	}
	if reply, err := ask("demo"); err != nil || reply.Inventory.SerialNumber != "of a test" {
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
