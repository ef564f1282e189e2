//go:build e2e

package house

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"biosv/internal/testbed"
)

// The Debian package is the same each time that it is made of the same commit, and has what it is to have.
func TestTheDebianPackageIsReproducible(t *testing.T) {
	program, tree := testbed.Program(t), copyOfTheTree(t)
	build := func() []byte {
		t.Helper()
		cmd := exec.Command("scripts/build-deb.sh", program)
		cmd.Dir = tree.dir
		cmd.Env = append(os.Environ(), "DEB_VERSION=1.2.3", "SOURCE_DATE_EPOCH=1700000000", "DPKG_DEB_COMPRESSOR_TYPE=none") // it is the packing that takes long
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		made, err := filepath.Glob(filepath.Join(tree.dir, "dist", "biosv_1.2.3_*.deb"))
		if err != nil || len(made) != 1 {
			t.Fatalf("scripts/build-deb.sh made %q, %v", made, err)
		}
		text, err := os.ReadFile(made[0])
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	first, second := build(), build()
	if !bytes.Equal(first, second) {
		t.Error("made twice of the same, the package is not the same")
	}
	list := exec.Command("dpkg-deb", "--contents", "/dev/stdin")
	list.Stdin = bytes.NewReader(first)
	out, err := list.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, path := range []string{
		"/usr/bin/biosv", "/etc/default/biosv", "/usr/lib/systemd/system/biosv.service", "/usr/share/man/man8/biosv.8.gz",
		"/usr/share/bash-completion/completions/biosv", "/usr/share/zsh/vendor-completions/_biosv", "/usr/share/fish/vendor_completions.d/biosv.fish",
		"/usr/share/doc/biosv/README.md", "/usr/share/doc/biosv/docs/operations.md", "/usr/share/doc/biosv/copyright", "/usr/share/doc/biosv/changelog.gz",
		"/usr/share/doc/biosv/licenses/go/LICENSE",
	} {
		if !strings.Contains(string(out), " ."+path+"\n") {
			t.Errorf("the package lacks %s", path)
		}
	}
}
