// Package testtpm gives tests software TPMs. Setting one up takes most of a second: it is done once for each test
// binary, and a copy of its folder is the same TPM, as it was when nothing had been done with it yet.
package testtpm

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/fstest"

	"biosv/security/tpm"
)

var fresh = sync.OnceValues(func() (fs.FS, error) {
	dir, err := os.MkdirTemp("", "tpm")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	t, err := tpm.Open(context.Background(), tpm.Source{Kind: tpm.Swtpm}, dir)
	if err != nil {
		return nil, err
	}
	if err := t.Close(); err != nil {
		return nil, err
	}
	files := fstest.MapFS{}
	err = fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(filepath.Join(dir, path))
		files[path] = &fstest.MapFile{Data: content, Mode: 0o600}
		return err
	})
	return files, err
})

// Folder makes a folder with a software TPM.
func Folder(t testing.TB) string {
	t.Helper()
	files, err := fresh()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "tpm")
	if err := os.CopyFS(dir, files); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Open opens the software TPM of a folder, until the test ends.
func Open(t testing.TB, dir string) *tpm.TPM {
	t.Helper()
	p, err := tpm.Open(t.Context(), tpm.Source{Kind: tpm.Swtpm}, dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}
