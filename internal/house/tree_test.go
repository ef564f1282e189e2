//go:build e2e

package house

import (
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// copied is a copy of the tree, with what its files held when it was made and when the patch was applied.
type copied struct {
	dir   string
	files map[string][sha256.Size]byte
}

// copyOfTheTree copies what git knows or would take, as it stands now.
func copyOfTheTree(t *testing.T) *copied {
	t.Helper()
	cmd := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	c := &copied{dir: t.TempDir()}
	for path := range strings.SplitSeq(strings.TrimRight(string(out), "\x00"), "\x00") {
		from, to := filepath.Join(root, path), filepath.Join(c.dir, path)
		info, err := os.Lstat(from)
		if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
			continue // deleted and not committed yet, or a link
		} else if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, text, info.Mode().Perm()); err != nil {
			t.Fatal(err)
		}
	}
	c.files = c.digests(t)
	return c
}

// run runs a command in the copy. Without the paths in it, what is compiled is the same each time, and Go's cache has it.
func (c *copied) run(t *testing.T, name string, arguments ...string) {
	t.Helper()
	start := time.Now()
	cmd := exec.Command(name, arguments...)
	cmd.Dir = c.dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-trimpath", "GIT_CEILING_DIRECTORIES="+filepath.Dir(c.dir))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	t.Logf("%s: %s", cmd, time.Since(start).Round(time.Millisecond))
}

func (c *copied) read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(c.dir, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// apply applies a patch, asserts that it touches what a newcomer touches and nothing else, and gives the function
// package.
func (c *copied) apply(t *testing.T, patch string) (function string) {
	t.Helper()
	c.run(t, "git", "apply", patch)
	allowed := regexp.MustCompile(`^(?:wsdl/bios\.wsdl|wsdl/bios\.xsd|(smm/[a-z]+)/[a-z_]+\.go)$`)
	touched := c.changed(t)
	for _, path := range touched {
		m := allowed.FindStringSubmatch(path)
		switch {
		case m == nil:
			t.Errorf("the patch touches %s", path)
		case function == "":
			function = m[1]
		case m[1] != "" && m[1] != function:
			t.Errorf("the patch touches two functions, %s and %s", function, m[1])
		}
	}
	for _, needed := range []string{`^wsdl/bios\.wsdl$`, `^wsdl/bios\.xsd$`, `_test\.go$`, `^smm/.*[^t]\.go$`} {
		if !slices.ContainsFunc(touched, regexp.MustCompile(needed).MatchString) {
			t.Errorf("the patch touches nothing like %s", needed)
		}
	}
	if t.Failed() {
		t.FailNow()
	}
	c.files = c.digests(t)
	return function
}

// onlyGeneratedFilesDiffer asserts that what changed since the patch was applied is generated.
func (c *copied) onlyGeneratedFilesDiffer(t *testing.T) {
	t.Helper()
	changed := c.changed(t)
	for _, path := range changed {
		if !strings.HasPrefix(path, "generated/") && path != "docs/operations.md" {
			t.Errorf("make generate changes %s", path)
		}
	}
	if !slices.Contains(changed, "generated/port.go") || !slices.Contains(changed, "docs/operations.md") {
		t.Errorf("make generate changes only %s", changed)
	}
}

// changed gives the files that hold something else than before, are new, or are gone.
func (c *copied) changed(t *testing.T) (paths []string) {
	t.Helper()
	now := c.digests(t)
	for path, sum := range now {
		if c.files[path] != sum {
			paths = append(paths, path)
		}
	}
	for path := range c.files {
		if _, ok := now[path]; !ok {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	return paths
}

func (c *copied) digests(t *testing.T) map[string][sha256.Size]byte {
	t.Helper()
	files := map[string][sha256.Size]byte{}
	if err := filepath.WalkDir(c.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(c.dir, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name == ".cache" { // what is there is made and not kept
				return fs.SkipDir
			}
			return nil
		}
		text, err := os.ReadFile(path)
		files[filepath.ToSlash(name)] = sha256.Sum256(text)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return files
}
