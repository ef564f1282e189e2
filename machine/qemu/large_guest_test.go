//go:build guest

package qemu_test

import (
	"bytes"
	"fmt"
	"testing"

	"biosv/generated"
)

// The flash has what the variable was when the machine was started; what is read is what it is now.
func TestFirmwareReadsALargeVariableAsItIsNow(t *testing.T) {
	h := &house{T: t, images: t.TempDir()}
	h.serve("")
	disk := h.systemPartition("disk.img", h.compile("testdata/large/large.c", t.TempDir(), "large"))
	m := h.create("large", func(r *generated.CreateDomainRequest) {
		r.KernelImage, r.InitrdImage, r.KernelArguments, r.DiskImage = nil, nil, "", []*generated.ImageName{disk}
	})
	read := func(c byte, size int) {
		t.Helper()
		m.console.AwaitNext(t, fmt.Sprintf("large: %02x %02x %04x", c, c, size), func() {})
	}
	m.set("Large", bytes.Repeat([]byte{'a'}, 4000))
	m.reset(generated.ResetTypeOn)
	m.connect()
	read('a', 4000)
	for _, now := range []struct {
		c    byte
		size int
	}{{'b', 4000}, {'b', 3999}, {'c', 8000}, {'d', 100}, {'a', 4000}} {
		m.set("Large", bytes.Repeat([]byte{now.c}, now.size))
		read(now.c, now.size)
	}
	if _, err := h.service.Admin(t).DeleteVariable(t.Context(), m.call(), &generated.DeleteVariableRequest{
		Name: new(generated.VariableName("Large")), VendorGuid: new(generated.VendorGuid(vendor)),
	}); err != nil {
		t.Fatal(err)
	}
	m.console.AwaitNext(t, "large: none", func() {})
	m.reset(generated.ResetTypeForceOff)
}
