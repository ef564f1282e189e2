package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if child := os.Getenv("STORE_TEST_CHILD"); child != "" {
		os.Exit(runChild(child))
	}
	goleak.VerifyTestMain(m)
}

func statePath(t testing.TB) string { return filepath.Join(t.TempDir(), "state.db") }

// openAt opens a state that the test closes at its end, where the test has not done so.
func openAt(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(path, Options{NoSync: true}) // no test here cuts the power
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func put(t testing.TB, s *Store, key, value string) {
	t.Helper()
	if err := s.Update(t.Context(), func(tx *Tx) error { tx.Bucket("b").Put([]byte(key), []byte(value)); return nil }); err != nil {
		t.Fatal(err)
	}
}

// get reads a value; empty where there is none.
func get(t testing.TB, s *Store, key string) (value string) {
	t.Helper()
	if err := s.View(t.Context(), func(tx *Tx) error { value = string(tx.Bucket("b").Get([]byte(key))); return nil }); err != nil {
		t.Fatal(err)
	}
	return value
}

func TestWhatWasChangedIsThereWhenTheStateIsOpenedAgain(t *testing.T) {
	t.Parallel()
	path := statePath(t)
	s := openAt(t, path)
	put(t, s, "k", "v")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := get(t, openAt(t, path), "k"); got != "v" {
		t.Errorf("it is %q", got)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("its mode is %v, %v", info.Mode(), err)
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".new-state-*")); len(left) > 0 || err != nil {
		t.Errorf("making it left %v, %v", left, err)
	}
}

func TestAStateInUseIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	path := statePath(t)
	s := openAt(t, path)
	if other, err := Open(path, Options{}); !errors.Is(err, ErrLocked) {
		if err == nil {
			other.Close()
		}
		t.Errorf("a second time: %v", err)
	}
	if err := Check(path); !errors.Is(err, ErrLocked) {
		t.Errorf("Check: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Check(path); err != nil {
		t.Errorf("Check, when it is not in use: %v", err)
	}
}

func TestAClosedStoreSaysSo(t *testing.T) {
	t.Parallel()
	s := openAt(t, statePath(t))
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	nothing := func(*Tx) error { return nil }
	if err := s.Update(t.Context(), nothing); !errors.Is(err, ErrClosed) {
		t.Errorf("Update: %v", err)
	}
	if err := s.View(t.Context(), nothing); !errors.Is(err, ErrClosed) {
		t.Errorf("View: %v", err)
	}
	if _, err := s.Restore(t.Context(), strings.NewReader("")); err == nil {
		t.Error("Restore works")
	}
}

func TestAFolderThatIsNotThereIsAnErrorThatNamesIt(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "none", "state.db")
	if _, err := Open(path, Options{}); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Error(err)
	}
}

func TestAnOldStateIsMigratedOnceAndANewerOneRefused(t *testing.T) {
	t.Parallel()
	path := statePath(t)
	s := openAt(t, path)
	put(t, s, "k", "old")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	runs := 0
	second := func(tx *bolt.Tx) error {
		runs++
		return tx.Bucket([]byte("b")).Put([]byte("k"), []byte("new"))
	}
	failed := errors.New("failed")
	broken := func(tx *bolt.Tx) error { return failed }

	if _, err := open(path, Options{}, append(migrations[:1:1], second, broken)); !errors.Is(err, failed) || !strings.Contains(err.Error(), "schema 3") {
		t.Fatalf("a migration that fails: %v", err)
	}
	s, err := Open(path, Options{})
	if err != nil {
		t.Fatalf("after a migration that failed: %v", err)
	}
	if got := get(t, s, "k"); got != "old" {
		t.Errorf("a migration that failed left %q", got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	runs = 0
	for range 2 {
		s, err := open(path, Options{}, append(migrations[:1:1], second))
		if err != nil {
			t.Fatal(err)
		}
		if got := get(t, s, "k"); got != "new" {
			t.Errorf("migrated, it is %q", got)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if runs != 1 {
		t.Errorf("the migration ran %d times", runs)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, Options{}); !errors.Is(err, ErrNewer) {
		t.Errorf("a newer state: %v", err)
	}
	if err := Check(path); !errors.Is(err, ErrNewer) {
		t.Errorf("Check of a newer state: %v", err)
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Errorf("the newer state was changed (%v)", err)
	}
}

func TestANewStateIsMadeByEveryMigration(t *testing.T) {
	t.Parallel()
	path := statePath(t)
	second := func(tx *bolt.Tx) error {
		b, err := tx.CreateBucket([]byte("b"))
		if err != nil {
			return err
		}
		return b.Put([]byte("k"), []byte("made"))
	}
	s, err := open(path, Options{}, append(migrations[:1:1], second))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got := get(t, s, "k"); got != "made" {
		t.Errorf("it is %q", got)
	}
}

func TestADatabaseOfAnotherProgramIsNoState(t *testing.T) {
	t.Parallel()
	path := statePath(t)
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error { _, err := tx.CreateBucket([]byte("theirs")); return err })
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, Options{}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("Open: %v", err)
	}
	if err := Check(path); !errors.Is(err, ErrCorrupt) {
		t.Errorf("Check: %v", err)
	}
}

func TestWhatABucketDoesNotTakeIsAnErrorOfTheChange(t *testing.T) {
	t.Parallel()
	s := openAt(t, statePath(t))
	if err := s.Update(t.Context(), func(tx *Tx) error {
		tx.Bucket("b").Put([]byte("key"), []byte("v"))
		tx.Bucket("b", "bucket").Put([]byte("k"), []byte("v"))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("k", MaxKey+1)
	for _, row := range []struct {
		name string
		fn   func(*Tx)
		says string // empty where it is fine
	}{
		{"the longest key", func(tx *Tx) { tx.Bucket("b").Put([]byte(long[1:]), nil) }, ""},
		{"a key too long", func(tx *Tx) { tx.Bucket("b").Put([]byte(long), nil) }, "32769 bytes"},
		{"an empty key", func(tx *Tx) { tx.Bucket("b").Put(nil, nil) }, "0 bytes"},
		{"the longest value", func(tx *Tx) { tx.Bucket("b").Put([]byte("k"), make([]byte, MaxValue)) }, ""},
		{"a value too long", func(tx *Tx) { tx.Bucket("b").Put([]byte("k"), make([]byte, MaxValue+1)) }, "16777217 bytes"},
		{"a key in a bucket's place", func(tx *Tx) { tx.Bucket("b").Put([]byte("bucket"), nil) }, "a bucket has that name"},
		{"a bucket in a key's place", func(tx *Tx) { tx.Bucket("b", "key").Put([]byte("k"), nil) }, `"b/key" is a key`},
		{"a bucket below a key", func(tx *Tx) { tx.Bucket("b", "key", "c").Put([]byte("k"), nil) }, `"b/key" is a key`},
		{"no bucket", func(tx *Tx) { tx.Bucket().Put([]byte("k"), nil) }, "names no bucket"},
		{"a bucket without a name", func(tx *Tx) { tx.Bucket("b", "").Put([]byte("k"), nil) }, "0 bytes"},
		{"a bucket with a long name", func(tx *Tx) { tx.Bucket(long).Put([]byte("k"), nil) }, "32769 bytes"},
		{"the store's own bucket", func(tx *Tx) { tx.Bucket(metaBucket).Put([]byte("k"), nil) }, "the store's own"},
		{"deletion of the store's own bucket", func(tx *Tx) { tx.DeleteBucket(metaBucket) }, "the store's own"},
		{"deletion of no bucket", func(tx *Tx) { tx.DeleteBucket() }, "names no bucket"},
		{"deletion of what is not there", func(tx *Tx) { tx.Bucket("x").Delete([]byte("k")); tx.DeleteBucket("x", "y") }, ""},
		{"a sequence of the store's own bucket", func(tx *Tx) { tx.NextSequence(metaBucket) }, "the store's own"},
	} {
		t.Run(row.name, func(t *testing.T) {
			err := s.Update(t.Context(), func(tx *Tx) error { row.fn(tx); return nil })
			if row.says == "" && err != nil || row.says != "" && (err == nil || !strings.Contains(err.Error(), row.says)) {
				t.Errorf("%v; want %q", err, row.says)
			}
		})
	}
	if got := get(t, s, "key"); got != "v" {
		t.Errorf("the key is %q now", got)
	}
}

func TestTheStoresOwnBucketCannotBeSeen(t *testing.T) {
	t.Parallel()
	s := openAt(t, statePath(t))
	put(t, s, "k", "v")
	if err := s.View(t.Context(), func(tx *Tx) error {
		if got := fmt.Sprint(tx.Buckets()); got != "[b]" {
			t.Errorf("the buckets are %s", got)
		}
		if v := tx.Bucket(metaBucket).Get([]byte(versionKey)); v != nil {
			t.Errorf("its version reads as %x", v)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func TestAViewChangesNothing(t *testing.T) {
	t.Parallel()
	s := openAt(t, statePath(t))
	put(t, s, "k", "v")
	for name, fn := range map[string]func(*Tx){
		"Put":          func(tx *Tx) { tx.Bucket("b").Put([]byte("k"), []byte("w")) },
		"Delete":       func(tx *Tx) { tx.Bucket("b").Delete([]byte("k")) },
		"DeleteBucket": func(tx *Tx) { tx.DeleteBucket("b") },
		"NextSequence": func(tx *Tx) { tx.NextSequence("b") },
	} {
		err := s.View(t.Context(), func(tx *Tx) error {
			if tx.Writable() {
				t.Error("a View says that it can write")
			}
			tx.OnCommit(func() { t.Error("OnCommit ran in a View") })
			fn(tx)
			return nil
		})
		if err == nil || !strings.Contains(err.Error(), "a View tried") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := get(t, s, "k"); got != "v" {
		t.Errorf("it is %q now", got)
	}
}

func TestAContextThatHasEndedReadsAndChangesNothing(t *testing.T) {
	t.Parallel()
	s := openAt(t, statePath(t))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	ran := func(*Tx) error { t.Error("the function ran"); return nil }
	if err := s.View(ctx, ran); !errors.Is(err, context.Canceled) {
		t.Errorf("View: %v", err)
	}
	for range 20 { // the queue may take it, and it is let go there
		if err := s.Update(ctx, ran); !errors.Is(err, context.Canceled) {
			t.Errorf("Update: %v", err)
		}
	}
}

func TestSequencesGiveNoNumberTwice(t *testing.T) {
	t.Parallel()
	path := statePath(t)
	s := openAt(t, path)
	next := func(fail error) (n uint64) {
		t.Helper()
		if err := s.Update(t.Context(), func(tx *Tx) error {
			tx.NextSequence("b")
			n = tx.NextSequence("b")
			return fail
		}); !errors.Is(err, fail) {
			t.Fatal(err)
		}
		return n
	}
	failed := errors.New("failed")
	if got := []uint64{next(nil), next(failed), next(nil)}; fmt.Sprint(got) != "[2 4 4]" {
		t.Errorf("the numbers are %v", got)
	}
	if err := s.Update(t.Context(), func(tx *Tx) error {
		tx.DeleteBucket("b")
		if n := tx.NextSequence("b"); n != 1 {
			t.Errorf("a bucket that was deleted goes on at %d", n)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func TestJSONThatIsDamagedIsErrCorrupt(t *testing.T) {
	t.Parallel()
	s := openAt(t, statePath(t))
	type record struct{ A int }
	if err := s.Update(t.Context(), func(tx *Tx) error {
		tx.Bucket("b").Put([]byte("damaged"), []byte("{"))
		return PutJSON(tx.Bucket("b"), "good", record{7})
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.View(t.Context(), func(tx *Tx) error {
		if r, ok, err := GetJSON[record](tx.Bucket("b"), "good"); r.A != 7 || !ok || err != nil {
			t.Errorf("good: %v, %v, %v", r, ok, err)
		}
		if _, ok, err := GetJSON[record](tx.Bucket("b"), "none"); ok || err != nil {
			t.Errorf("none: %v, %v", ok, err)
		}
		_, ok, err := GetJSON[record](tx.Bucket("b"), "damaged")
		if ok || !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "b/damaged") {
			t.Errorf("damaged: %v, %v", ok, err)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.Update(t.Context(), func(tx *Tx) error { return PutJSON(tx.Bucket("b"), "k", func() {}) }); err == nil {
		t.Error("a function became JSON")
	}
}
