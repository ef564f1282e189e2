package envelope_test

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
)

// leastCovered is the share of the statements of this package and of xmltext, in percent, that the corpus runs.
const leastCovered = 90

// The files of testdata/hostile and testdata/envelopes alone run what reads and writes envelopes.
func TestTheCorpusCoversReaderAndWriter(t *testing.T) {
	t.Parallel()
	profile := filepath.Join(t.TempDir(), "profile")
	cmd := exec.Command("go", "test", "-count=1", "-run", "^(TestGoodRequests|TestAttacks|TestAnswers)", "-coverpkg", "biosv/envelope/...", "-coverprofile", profile, ".")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := exec.Command("go", "tool", "cover", "-func", profile).Output()
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^total:\s.*\s([0-9.]+)%$`).FindSubmatch(out)
	if found == nil {
		t.Fatalf("go tool cover tells no total:\n%s", out)
	}
	percent, err := strconv.ParseFloat(string(found[1]), 64)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the corpus covers %.1f %%", percent)
	if percent < leastCovered {
		t.Errorf("the corpus covers %.1f %%, less than %d:\n%s", percent, leastCovered, out)
	}
}
