package store

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// model is what a state should hold: values by path and key, joined by slashes, and the buckets that were made.
type model struct {
	values  map[string]string
	buckets map[string]bool
}

func (m model) clone() model { return model{maps.Clone(m.values), maps.Clone(m.buckets)} }

func (m model) below(path string) (keys []string) {
	for k := range m.values {
		if rest, ok := strings.CutPrefix(k, path+"/"); ok && !strings.Contains(rest, "/") {
			keys = append(keys, rest)
		}
	}
	slices.Sort(keys)
	return keys
}

func (m model) bucketsBelow(path string) (names []string) {
	for b := range m.buckets {
		if rest, ok := strings.CutPrefix("/"+b, strings.TrimSuffix("/"+path, "/")+"/"); ok && !strings.Contains(rest, "/") {
			names = append(names, rest)
		}
	}
	slices.Sort(names)
	return names
}

func (m model) put(path, key, value string) {
	for b := path; b != ""; b, _ = cutLast(b) {
		m.buckets[b] = true
	}
	m.values[path+"/"+key] = value
}

func (m model) deleteBucket(path string) {
	maps.DeleteFunc(m.values, func(k, _ string) bool { return strings.HasPrefix(k, path+"/") })
	maps.DeleteFunc(m.buckets, func(b string, _ bool) bool { return b == path || strings.HasPrefix(b, path+"/") })
}

func cutLast(path string) (before, last string) {
	i := strings.LastIndexByte(path, '/')
	return path[:max(i, 0)], path[i+1:]
}

// The buckets that programs work on. Keys are single letters, so no key has a bucket's name.
var modelPaths = []string{"one", "one/two", "one/two/three", "four"}

// agree compares everything that can be read with the model.
func agree(tx *Tx, m model) error {
	for _, path := range append([]string{""}, modelPaths...) {
		var parts []string
		if path != "" {
			parts = strings.Split(path, "/")
		}
		if got, want := tx.Buckets(parts...), m.bucketsBelow(path); !slices.Equal(got, want) {
			return fmt.Errorf("the buckets below %q are %q; want %q", path, got, want)
		}
		if path == "" {
			continue
		}
		b, want := tx.Bucket(parts...), m.below(path)
		var got []string
		b.Scan(nil, func(k, v []byte) bool {
			got = append(got, string(k))
			if string(v) != m.values[path+"/"+string(k)] || !bytes.Equal(v, b.Get(k)) {
				got = append(got, fmt.Sprintf("(%q, %q)", v, b.Get(k)))
			}
			return true
		})
		if !slices.Equal(got, want) {
			return fmt.Errorf("%s holds %q; want %q", path, got, want)
		}
		if n := b.Len(); n != len(want) {
			return fmt.Errorf("%s has %d keys; want %d", path, n, len(want))
		}
		last, _ := b.Last()
		if len(want) > 0 && string(last) != want[len(want)-1] || len(want) == 0 && last != nil {
			return fmt.Errorf("the last key of %s is %q; want the end of %q", path, last, want)
		}
		for _, from := range []string{"", "c", "d", "z"} {
			if err := agreeFrom(b, from, want); err != nil {
				return fmt.Errorf("%s from %q: %w", path, from, err)
			}
		}
	}
	return nil
}

func agreeFrom(b *Bucket, from string, keys []string) error {
	walk := func(scan func([]byte, func(k, v []byte) bool), most int) (got []string) {
		scan([]byte(from), func(k, _ []byte) bool {
			got = append(got, string(k))
			return len(got) < most
		})
		return got
	}
	rising := slices.DeleteFunc(slices.Clone(keys), func(k string) bool { return k < from })
	falling := slices.DeleteFunc(slices.Clone(keys), func(k string) bool { return from != "" && k > from })
	slices.Reverse(falling)
	if got := walk(b.Scan, 99); !slices.Equal(got, rising) {
		return fmt.Errorf("rising %q; want %q", got, rising)
	}
	if got := walk(b.ScanBack, 99); !slices.Equal(got, falling) {
		return fmt.Errorf("falling %q; want %q", got, falling)
	}
	if got := walk(b.Scan, 1); len(got) != min(1, len(rising)) {
		return fmt.Errorf("one wanted, got %q", got)
	}
	return nil
}

var errRollBack = errors.New("rolled back on purpose")

// A program of bytes works on a state and on a model of it. Four changes of a few steps each; the state reads as
// the model says inside each change, after it, and when it is opened again.
func FuzzAStateHoldsWhatItsChangesSay(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x03\x01\x00"))
	f.Add([]byte{0, 1, 2, 9, 40, 80, 120, 160, 200, 240, 3, 7, 11, 250, 251, 252, 253, 254, 255})
	f.Add(bytes.Repeat([]byte{5, 77, 130, 201, 14, 99}, 20))
	f.Add([]byte("put, delete, delete the bucket, put again, and fail at the end\xff"))
	f.Fuzz(func(t *testing.T, program []byte) {
		path := statePath(t)
		s := openAt(t, path)
		m := model{map[string]string{}, map[string]bool{}}
		program = program[:min(len(program), 400)]
		for chunk := range slices.Chunk(program, max(1, (len(program)+3)/4)) {
			after := m.clone()
			err := s.Update(t.Context(), func(tx *Tx) error {
				for i, step := range chunk {
					p := modelPaths[step%4]
					parts, key := strings.Split(p, "/"), string('a'+rune(step/4%6))
					switch step / 24 {
					case 0, 1, 2, 3, 4:
						value := strings.Repeat("v", int(step)*40) // some go over a page
						tx.Bucket(parts...).Put([]byte(key), []byte(value))
						after.put(p, key, value)
					case 5, 6, 7:
						tx.Bucket(parts...).Delete([]byte(key))
						delete(after.values, p+"/"+key)
					case 8:
						tx.DeleteBucket(parts...)
						after.deleteBucket(p)
					case 9:
						if err := agree(tx, after); err != nil {
							return err
						}
					default:
						if i == len(chunk)-1 {
							return errRollBack
						}
					}
				}
				return agree(tx, after)
			})
			switch {
			case err == nil:
				m = after
			case !errors.Is(err, errRollBack):
				t.Fatal(err)
			}
			if err := s.View(t.Context(), func(tx *Tx) error { return agree(tx, m) }); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := Check(path); err != nil {
			t.Fatal(err)
		}
		if err := openAt(t, path).View(t.Context(), func(tx *Tx) error { return agree(tx, m) }); err != nil {
			t.Fatal(err)
		}
	})
}

// A walk gives the bucket as it was when it began, whatever the function does to it.
func TestAScanMayChangeWhatItScans(t *testing.T) {
	t.Parallel()
	s := openAt(t, statePath(t))
	for _, k := range []string{"a", "c", "e"} {
		put(t, s, k, k)
	}
	if err := s.Update(t.Context(), func(tx *Tx) error {
		b := tx.Bucket("b")
		b.Put([]byte("d"), nil)
		var got []string
		b.Scan(nil, func(k, _ []byte) bool {
			got = append(got, string(k))
			b.Delete(k)
			b.Put(append(bytes.Clone(k), 'x'), nil)
			return true
		})
		if fmt.Sprint(got) != "[a c d e]" {
			t.Errorf("the walk gave %q", got)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.View(t.Context(), func(tx *Tx) error {
		var got []string
		tx.Bucket("b").Scan(nil, func(k, _ []byte) bool { got = append(got, string(k)); return true })
		if fmt.Sprint(got) != "[ax cx dx ex]" {
			t.Errorf("it holds %q", got)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// What is given to Put can be used again.
func TestPutCopiesItsArguments(t *testing.T) {
	t.Parallel()
	s := openAt(t, statePath(t))
	key, value := []byte("k"), []byte("v")
	if err := s.Update(t.Context(), func(tx *Tx) error {
		tx.Bucket("b").Put(key, value)
		key[0], value[0] = 'x', 'x'
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if got := cmp.Or(get(t, s, "k"), "nothing"); got != "v" {
		t.Errorf("it is %q", got)
	}
}
