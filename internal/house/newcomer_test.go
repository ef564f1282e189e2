//go:build e2e

package house

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"biosv/internal/testbed"
)

// patch adds the operation GetAssetTag; testdata/newcomer says how it is made.
const patch = "testdata/newcomer/get-asset-tag.patch"

// A newcomer adds an operation by touching the contract, one function package and its test. SOAP, the command line,
// the policy, the audit log and the reference know the operation then, and no other file had to change.
func TestANewcomerTouchesThreePlaces(t *testing.T) {
	tree := copyOfTheTree(t)
	function := tree.apply(t, patch)
	tree.run(t, "make", "generate")
	tree.onlyGeneratedFilesDiffer(t)
	if text := tree.read(t, "docs/operations.md"); !regexp.MustCompile(`(?s)\n### GetAssetTag\n.*?Role viewer or guest · reads · scope domain.*?biosv asset-tag --domain demo`).MatchString(text) {
		t.Error("docs/operations.md does not tell of GetAssetTag what the contract says")
	}
	bin := filepath.Join(t.TempDir(), "biosv")
	tree.run(t, "go", "build", "-ldflags", "-s -w", "-o", bin, "./cmd/biosv")
	// The function's own test, and the tests of whatever knows all operations.
	tree.run(t, "go", "vet", "./"+function)
	tree.run(t, "go", "test", "./"+function, "./wsdl", "./generated/...", "./internal/cli", "./security/policy")

	service := testbed.Start(t, testbed.Options{Program: bin})
	ask := func(arguments ...string) (string, error) {
		out, err := exec.Command(bin, append(arguments, "--data", service.Data)...).CombinedOutput()
		return string(out), err
	}
	if out, err := ask("attributes", "set", "AssetTag=rack-7", "--domain", "demo"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := ask("asset-tag", "--domain", "demo"); err != nil || !strings.Contains(out, "rack-7") {
		t.Errorf("biosv asset-tag: %v\n%s", err, out)
	}
	var answer struct{ AssetTag string }
	if out, err := ask("asset-tag", "--domain", "demo", "--json"); err != nil || json.Unmarshal([]byte(out), &answer) != nil || answer.AssetTag != "rack-7" {
		t.Errorf("biosv asset-tag --json: %v\n%s", err, out)
	}
	if out := zeep(t, service); out != "Bios rack-7\nBios12 rack-7\n" {
		t.Errorf("zeep is answered %q", out)
	}

	// The policy knows it, and so does the audit log.
	stranger := exec.Command(bin, "asset-tag", "--domain", "demo", "--data", t.TempDir(), "--url", service.URL, "--ca", service.RootFile())
	if out, err := stranger.CombinedOutput(); err == nil || !strings.Contains(string(out), "AuthenticationRequiredFault") {
		t.Errorf("without a certificate, biosv asset-tag: %v\n%s", err, out)
	}
	if out, err := ask("audit", "--json"); err != nil || !regexp.MustCompile(`"Operation": "GetAssetTag",\s+"AuditOutcome": "Refused"`).MatchString(out) {
		t.Errorf("the audit log does not tell of the refusal: %v\n%s", err, out)
	}
}

// zeep asks with the client that scripts/setup-interop.sh puts in place.
func zeep(t *testing.T, s *testbed.Service) string {
	t.Helper()
	python := filepath.Join(root, ".cache", "interop", "python", "bin", "python")
	if _, err := os.Stat(python); err != nil {
		t.Fatalf("zeep is missing: run scripts/setup-interop.sh (%v)", err)
	}
	cmd := exec.Command(python, filepath.Join(root, "testdata", "newcomer", "ask.py"))
	cmd.Env = append(os.Environ(), "BIOSV_URL="+s.URL, "BIOSV_ROOTS="+s.RootFile(), "BIOSV_CERT="+s.CertificateFile(), "BIOSV_KEY="+s.KeyFile())
	var failure bytes.Buffer
	cmd.Stderr = &failure
	out, err := cmd.Output()
	if err != nil {
		t.Errorf("zeep: %v\n%s", err, failure.Bytes())
	}
	return string(out)
}
