package tpm

import (
	"errors"
	"testing"

	"github.com/google/go-tpm/tpm2"
)

// The response codes (Part 2, section 6.6.3) are those that a TPM gave for each reason.
func TestRefusalsOfTheTPMAreToldApart(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		code tpm2.TPMRC
		want error
	}{
		{0x1C4, ErrPolicy},  // TPM_RC_VALUE: the digest of PolicyAuthorize is of other registers
		{0x99D, ErrPolicy},  // TPM_RC_POLICY_FAIL: no policy was satisfied
		{0x128, ErrPolicy},  // TPM_RC_PCR_CHANGED: since PolicyPCR
		{0x126, ErrRevoked}, // TPM_RC_POLICY: PolicyNV, the counter has passed
	} {
		if err := refusal(row.code); !errors.Is(err, row.want) {
			t.Errorf("%#x is %v; want %v", uint32(row.code), err, row.want)
		}
	}
	for _, code := range []tpm2.TPMRC{0x12F, 0x922, 0x101} {
		if err := refusal(code); errors.Is(err, ErrPolicy) || errors.Is(err, ErrRevoked) || err == nil {
			t.Errorf("%#x is %v", uint32(code), err)
		}
	}
	if err := refusal(nil); err != nil {
		t.Error(err)
	}
}
