package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// everyKind is the file of a state that has every kind of page: branches, leaves, values that go over pages,
// buckets in leaves and of their own, and a list of free pages.
var everyKind = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "store-test-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "state.db")
	s, err := Open(path, Options{NoSync: true})
	if err != nil {
		return nil, err
	}
	ctx := context.Background()
	err = s.Update(ctx, func(tx *Tx) error {
		for i := range 300 {
			tx.Bucket("wide").Put(fmt.Appendf(nil, "key %05d", i*7), bytes.Repeat([]byte{byte(i)}, 100))
		}
		for i := range 8 {
			tx.Bucket("deep", "deeper", fmt.Sprint(i)).Put([]byte("k"), []byte("v"))
		}
		tx.Bucket("large").Put([]byte("k"), make([]byte, 20_000))
		tx.Bucket("gone").Put([]byte("k"), make([]byte, 20_000))
		return nil
	})
	if err == nil {
		err = s.Update(ctx, func(tx *Tx) error { tx.DeleteBucket("gone"); return nil })
	}
	if err := errors.Join(err, s.Close()); err != nil {
		return nil, err
	}
	file, err := os.ReadFile(path)
	return bytes.TrimRight(file, "\x00"), err // it grew in a large step
})

func everyKindOfPage(t testing.TB) []byte {
	t.Helper()
	file, err := everyKind()
	if err != nil {
		t.Fatal(err)
	}
	page := os.Getpagesize()
	file = append(bytes.Clone(file), make([]byte, page-len(file)%page)...)
	kinds := map[uint16]int{}
	for at := 0; at < len(file); at += page {
		kinds[order.Uint16(file[at+8:])]++
	}
	for _, kind := range []uint16{branchPage, leafPage, freelistPage} {
		if kinds[kind] == 0 {
			t.Fatalf("it has no page of the kind %#x", kind)
		}
	}
	return file
}

// use opens a file, reads all of it, changes it, and reads it again. It gives the error that this ends with; it
// must not panic.
func use(path string) error {
	s, err := Open(path, Options{NoSync: true})
	if err != nil {
		return err
	}
	defer s.Close()
	ctx := context.Background()
	if err := s.View(ctx, readAll); err != nil {
		return err
	}
	if err := s.Update(ctx, func(tx *Tx) error {
		tx.Bucket("wide").Put([]byte("key 01"), make([]byte, 5000))
		tx.Bucket("wide").Delete([]byte("key 00070"))
		tx.DeleteBucket("deep")
		tx.Bucket("deep", "again").Put([]byte("k"), []byte("v"))
		return nil
	}); err != nil {
		return err
	}
	return s.View(ctx, readAll)
}

func readAll(tx *Tx) error {
	var walk func(path ...string)
	walk = func(path ...string) {
		for _, name := range tx.Buckets(path...) {
			below := append(path[:len(path):len(path)], name)
			tx.Bucket(below...).Scan(nil, func(k, v []byte) bool {
				_ = tx.Bucket(below...).Get(k)
				return tx.err == nil
			})
			if len(below) < 10 {
				walk(below...)
			}
		}
	}
	walk()
	return nil
}

// damage writes a file with one part of it changed.
func damage(t testing.TB, path string, file []byte, at int, patch []byte) {
	t.Helper()
	damaged := bytes.Clone(file)
	copy(damaged[at:], patch)
	if err := os.WriteFile(path, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestADamagedPageIsErrCorruptAndNeverAPanic(t *testing.T) {
	t.Parallel()
	file := everyKindOfPage(t)
	path := filepath.Join(t.TempDir(), "state.db")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := use(path); err != nil {
		t.Fatalf("undamaged: %v", err)
	}
	noticed, tried := 0, 0
	try := func(at int, patch []byte) {
		damage(t, path, file, at, patch)
		tried++
		if err := use(path); errors.Is(err, ErrCorrupt) {
			noticed++
		} else if err != nil {
			t.Errorf("%x at %#x: %v", patch, at, err)
		}
	}
	page := os.Getpagesize()
	for at := 0; at < len(file); at += page {
		for _, field := range []int{0, 8, 10, 12, 16, 20, 24, 28} {
			try(at+field, []byte{^file[at+field]})
			try(at+field, []byte{0xff, 0xff})
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 100 {
		try(random.IntN(len(file)-8), []byte{byte(random.Uint32()), byte(random.Uint32())})
	}
	if noticed < tried/4 {
		t.Errorf("of %d damages %d were noticed", tried, noticed)
	}
}

// Every page that is in use is needed: a file without it is refused.
func TestAPageThatIsGoneIsErrCorrupt(t *testing.T) {
	t.Parallel()
	file := everyKindOfPage(t)
	path := filepath.Join(t.TempDir(), "state.db")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	meta, size := newestMeta(f, int64(len(file)))
	p := &pages{file: f, size: size, count: order.Uint64(meta[40:]), seen: make([]bool, order.Uint64(meta[40:]))}
	if err := p.checkTree(order.Uint64(meta[16:]), nil, nil); err != nil {
		t.Fatal(err)
	}
	gone := 0
	for id, used := range p.seen {
		at := id * int(size)
		if !used || order.Uint64(file[at:]) != uint64(id) {
			continue // free, or inside of a value
		}
		damage(t, path, file, at, make([]byte, size))
		gone++
		if err := use(path); !errors.Is(err, ErrCorrupt) {
			t.Errorf("without page %d: %v", id, err)
		}
	}
	if gone < 10 {
		t.Errorf("%d pages were tried", gone)
	}
}

func TestAFileThatIsCutOrIsNoStateIsErrCorrupt(t *testing.T) {
	t.Parallel()
	file := everyKindOfPage(t)
	path := filepath.Join(t.TempDir(), "state.db")
	page := os.Getpagesize()
	second := bytes.Clone(file)
	copy(second, make([]byte, page)) // the first meta page is gone, the second one counts
	both := bytes.Clone(second)
	copy(both[page:], make([]byte, page))
	for name, content := range map[string][]byte{
		"one byte": {1}, "a text": []byte(strings.Repeat("no state\n", 2000)), "zeros": make([]byte, 16*page),
		"the meta pages only": file[:2*page], "half of it": file[:len(file)/2/page*page], "all but a byte": file[:len(file)-1],
		"half a page": file[:page/2], "both meta pages gone": both,
	} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := use(path); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		if err := Check(path); !errors.Is(err, ErrCorrupt) {
			t.Errorf("Check of %s: %v", name, err)
		}
		if left, err := os.ReadFile(path); err != nil || !bytes.Equal(left, content) {
			t.Errorf("%s: the file was changed (%v)", name, err)
		}
	}
	if err := os.WriteFile(path, second, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := use(path); err != nil && !errors.Is(err, ErrCorrupt) {
		t.Errorf("with the second meta page only: %v", err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Check(path); !errors.Is(err, ErrCorrupt) {
		t.Errorf("Check of an empty file: %v", err)
	}
}

// A disk that loses pages of an open file gives a fault of memory access, which is an error and not the end.
func TestAFileThatIsCutWhileItIsOpen(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.db")
	if err := os.WriteFile(path, everyKindOfPage(t), 0o600); err != nil {
		t.Fatal(err)
	}
	s := openAt(t, path)
	if err := os.Truncate(path, 2*int64(os.Getpagesize())); err != nil {
		t.Fatal(err)
	}
	if err := s.View(t.Context(), readAll); !errors.Is(err, ErrCorrupt) {
		t.Errorf("View: %v", err)
	}
	for range 2 {
		if err := s.Update(t.Context(), readAll); !errors.Is(err, ErrCorrupt) {
			t.Errorf("Update that reads: %v", err)
		}
		if err := s.Update(t.Context(), func(tx *Tx) error { tx.DeleteBucket("wide"); return nil }); !errors.Is(err, ErrCorrupt) {
			t.Errorf("Update that writes: %v", err)
		}
	}
}

func FuzzADamagedStateIsErrCorrupt(f *testing.F) {
	page := os.Getpagesize()
	for id := range 8 {
		f.Add(uint32(id*page+8), []byte{1, 0, 2})
		f.Add(uint32(id*page+16), []byte{0, 0, 0, 0, 255, 255})
	}
	file := everyKindOfPage(f)
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, at uint32, patch []byte) {
		path := filepath.Join(dir, fmt.Sprint(os.Getpid()))
		damage(t, path, file, int(at)%len(file), patch)
		if err := use(path); err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNewer) { // the version itself may be hit
			t.Errorf("%x at %#x: %v", patch, at, err)
		}
	})
}
