package store

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	bolt "go.etcd.io/bbolt"
)

func backup(t testing.TB, s *Store) []byte {
	t.Helper()
	var b bytes.Buffer
	n, err := s.Backup(t.Context(), &b)
	if err != nil || n != int64(b.Len()) {
		t.Fatalf("%d bytes, said to be %d: %v", b.Len(), n, err)
	}
	return b.Bytes()
}

func TestRestoreBringsBackWhatBackupTook(t *testing.T) {
	t.Parallel()
	path := statePath(t)
	s := openAt(t, path)
	put(t, s, "k", "then")
	copied := backup(t, s)
	put(t, s, "k", "now")
	put(t, s, "l", "now")
	schema, err := s.Restore(t.Context(), bytes.NewReader(copied))
	if err != nil || schema != SchemaVersion() {
		t.Fatalf("schema %d, %v", schema, err)
	}
	if get(t, s, "k") != "then" || get(t, s, "l") != "" {
		t.Errorf("k is %q and l is %q", get(t, s, "k"), get(t, s, "l"))
	}
	put(t, s, "m", "later")
	if other, err := Open(path, Options{}); !errors.Is(err, ErrLocked) {
		if err == nil {
			other.Close()
		}
		t.Errorf("the restored state is not locked: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openAt(t, path)
	if get(t, s, "k") != "then" || get(t, s, "m") != "later" {
		t.Errorf("opened again, k is %q and m is %q", get(t, s, "k"), get(t, s, "m"))
	}
	kept := openAt(t, path+".before-restore")
	if get(t, kept, "k") != "now" || get(t, kept, "l") != "now" {
		t.Errorf("what was there before is kept as %q, %q", get(t, kept, "k"), get(t, kept, "l"))
	}
}

func TestRestoreRefusesWhatIsNoCopyAndChangesNothing(t *testing.T) {
	t.Parallel()
	path := statePath(t)
	s := openAt(t, path)
	put(t, s, "k", "v")
	copied := backup(t, s)
	newer := statePath(t)
	later, err := open(newer, Options{NoSync: true}, append(migrations[:1:1], func(*bolt.Tx) error { return nil }))
	if err != nil {
		t.Fatal(err)
	}
	tooNew := backup(t, later)
	if err := later.Close(); err != nil {
		t.Fatal(err)
	}
	page := os.Getpagesize()
	damaged := bytes.Clone(copied)
	for at := 2 * page; at < len(damaged); at += page {
		if order.Uint16(damaged[at+8:]) == leafPage {
			damaged[at+8] = 0xff
		}
	}
	broken := errors.New("the network broke")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, row := range []struct {
		name string
		ctx  context.Context
		copy io.Reader
		want error
	}{
		{"nothing", t.Context(), strings.NewReader(""), ErrCorrupt},
		{"a text", t.Context(), strings.NewReader(strings.Repeat("no state\n", 2000)), ErrCorrupt},
		{"half a copy", t.Context(), bytes.NewReader(copied[:len(copied)/2]), ErrCorrupt},
		{"a damaged copy", t.Context(), bytes.NewReader(damaged), ErrCorrupt},
		{"a newer one", t.Context(), bytes.NewReader(tooNew), ErrNewer},
		{"a copy that breaks off", t.Context(), io.MultiReader(bytes.NewReader(copied[:page]), failing{broken}), broken},
		{"a copy for which there is no room", t.Context(), failing{syscall.ENOSPC}, ErrFull},
		{"a context that has ended", ended, bytes.NewReader(copied), context.Canceled},
	} {
		if _, err := s.Restore(row.ctx, row.copy); !errors.Is(err, row.want) {
			t.Errorf("%s: %v; want %v", row.name, err, row.want)
		}
		if left, err := filepath.Glob(path + ".*"); err != nil || len(left) > 0 {
			t.Errorf("%s left %v (%v)", row.name, left, err)
		}
		put(t, s, "n", row.name)
		if get(t, s, "k") != "v" {
			t.Errorf("after %s, k is %q", row.name, get(t, s, "k"))
		}
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error)  { return 0, f.err }
func (f failing) Write([]byte) (int, error) { return 0, f.err }

// What is restored is a change like any other to those who read and write meanwhile.
func TestRestoreAmongReadersAndWriters(t *testing.T) {
	t.Parallel()
	s := openAt(t, statePath(t))
	put(t, s, "k", "then")
	copied := backup(t, s)
	var fns []func(*Tx) error
	for i := range 50 {
		fns = append(fns, func(tx *Tx) error { tx.Bucket("b").Put([]byte(strconv.Itoa(i)), []byte("v")); return nil })
	}
	errs := queued(s, t.Context(), fns...)
	for range 10 {
		if _, err := s.Restore(t.Context(), bytes.NewReader(copied)); err != nil {
			t.Fatal(err)
		}
		if got := get(t, s, "k"); got != "then" {
			t.Fatalf("it reads %q", got)
		}
	}
	if err := errors.Join(errs()...); err != nil {
		t.Fatal(err)
	}
}

// A state that takes no change any more, because the disk did not confirm one, takes a copy.
func TestRestoreMakesABrokenStateGood(t *testing.T) {
	t.Parallel()
	s := openAt(t, statePath(t))
	put(t, s, "k", "then")
	copied := backup(t, s)
	room := s.commit
	s.commit = func(b *bolt.Tx) error { return errors.Join(b.Commit(), syscall.EIO) }
	if err := s.Update(t.Context(), func(tx *Tx) error { tx.Bucket("b").Put([]byte("k"), []byte("now")); return nil }); !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	s.commit = room
	if _, err := s.Restore(t.Context(), bytes.NewReader(copied)); err != nil {
		t.Fatal(err)
	}
	if got := get(t, s, "k"); got != "then" {
		t.Errorf("it reads %q", got)
	}
	put(t, s, "k", "later")
}

func TestABackupIsOfOneMoment(t *testing.T) {
	t.Parallel()
	s := openAt(t, statePath(t))
	both := func(i int) func(*Tx) error {
		return func(tx *Tx) error {
			tx.Bucket("b").Put([]byte("one"), []byte(strconv.Itoa(i)))
			tx.Bucket("b").Put([]byte("two"), bytes.Repeat([]byte(strconv.Itoa(i)), 3000))
			return nil
		}
	}
	var fns []func(*Tx) error
	for i := range 200 {
		fns = append(fns, both(i))
	}
	errs := queued(s, t.Context(), fns...)
	for range 5 {
		path := statePath(t)
		if err := os.WriteFile(path, backup(t, s), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := Check(path); err != nil {
			t.Fatal(err)
		}
		c := openAt(t, path)
		if one, two := get(t, c, "one"), get(t, c, "two"); two != strings.Repeat(one, 3000) {
			t.Errorf("the copy holds %q and %q…", one, two[:min(9, len(two))])
		}
	}
	if err := errors.Join(errs()...); err != nil {
		t.Fatal(err)
	}
}

func TestABackupThatCannotBeWrittenIsAnError(t *testing.T) {
	t.Parallel()
	s := openAt(t, statePath(t))
	put(t, s, "k", "v")
	broken := errors.New("the network broke")
	if _, err := s.Backup(t.Context(), failing{broken}); !errors.Is(err, broken) {
		t.Errorf("a writer that fails: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := s.Backup(ctx, writerFunc(func(p []byte) (int, error) { cancel(); return len(p), nil })); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that ends: %v", err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
