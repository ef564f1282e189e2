package store_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"biosv/store"
)

func opened(t *testing.T) *store.Store {
	t.Helper()
	s, err := store.Open(filepath.Join(t.TempDir(), "state.db"), store.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

type record struct{ Name string }

func TestMemoGivesWhatTheTransactionReads(t *testing.T) {
	t.Parallel()
	s := opened(t)
	var memo store.Memo[record]
	expect := func(tx *store.Tx, want string) error {
		for range 2 { // decoded, and remembered
			v, ok, err := memo.Get(tx.Bucket("b"), "key")
			if err != nil || ok != (want != "") || v.Name != want {
				return fmt.Errorf("got %+v, %t, %w; want %q", v, ok, err, want)
			}
		}
		return nil
	}
	last := ""
	for _, name := range []string{"one", "two", "one"} {
		if err := s.Update(t.Context(), func(tx *store.Tx) error {
			if err := expect(tx, last); err != nil {
				return err
			}
			if err := store.PutJSON(tx.Bucket("b"), "key", record{name}); err != nil {
				return err
			}
			return expect(tx, name)
		}); err != nil {
			t.Fatal(err)
		}
		if err := s.View(t.Context(), func(tx *store.Tx) error { return expect(tx, name) }); err != nil {
			t.Fatal(err)
		}
		last = name
	}
	if err := s.Update(t.Context(), func(tx *store.Tx) error {
		tx.Bucket("b").Delete([]byte("key"))
		return expect(tx, "")
	}); err != nil {
		t.Fatal(err)
	}
}

func TestMemoRemembersNothingThatCannotBeDecoded(t *testing.T) {
	t.Parallel()
	s := opened(t)
	var memo store.Memo[record]
	for range 2 {
		if err := s.Update(t.Context(), func(tx *store.Tx) error {
			tx.Bucket("b").Put([]byte("key"), []byte("{"))
			_, _, err := memo.Get(tx.Bucket("b"), "key")
			return err
		}); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("a value that is no JSON: %v", err)
		}
	}
}

// A View remembers the buckets that it has opened, a few of them.
func TestViewFindsEveryBucketHoweverManyItReads(t *testing.T) {
	t.Parallel()
	s := opened(t)
	const many = 40
	paths := [][]string{{"a"}, {"b"}}
	for n := range many {
		name := fmt.Sprint(n)
		paths = append(paths, []string{"a", name}, []string{"b", name}, []string{"a", name, "below"}, []string{"b", name, "below"})
	}
	if err := s.Update(t.Context(), func(tx *store.Tx) error {
		for _, path := range paths {
			tx.Bucket(path...).Put([]byte("key"), fmt.Append(nil, path))
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.View(t.Context(), func(tx *store.Tx) error {
		for range 2 {
			for _, path := range paths {
				if got, want := string(tx.Bucket(path...).Get([]byte("key"))), fmt.Sprint(path); got != want {
					t.Errorf("%v holds %q", path, got)
				}
			}
			if tx.Bucket("a", "b").Get([]byte("key")) != nil || tx.Bucket("none").Get([]byte("key")) != nil {
				t.Error("a bucket that is not there is found")
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
