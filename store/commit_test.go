package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
)

// held lets a test hold the committer in a function until it says so.
func held(t *testing.T, s *Store) (release func() error) {
	t.Helper()
	began, end, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		done <- s.Update(context.Background(), func(*Tx) error {
			close(began)
			<-end
			return nil
		})
	}()
	<-began
	return func() error { close(end); return <-done }
}

// queued begins changes that wait for their turn, and gives their outcomes when they have ended.
func queued(s *Store, ctx context.Context, fns ...func(*Tx) error) func() []error {
	errs := make([]error, len(fns))
	var all sync.WaitGroup
	for i, fn := range fns {
		all.Go(func() { errs[i] = s.Update(ctx, fn) })
	}
	return func() []error { all.Wait(); return errs }
}

func TestChangesThatWaitShareACommit(t *testing.T) {
	t.Parallel()
	s := openAt(t, statePath(t))
	var commits atomic.Int32
	began, end := make(chan struct{}), make(chan struct{})
	s.commit = func(b *bolt.Tx) error {
		if commits.Add(1) == 1 {
			close(began)
			<-end
		}
		return b.Commit()
	}
	first := queued(s, t.Context(), func(tx *Tx) error { tx.Bucket("b").Put([]byte("first"), []byte("v")); return nil })
	<-began
	var fns []func(*Tx) error
	for i := range 40 {
		fns = append(fns, func(tx *Tx) error { tx.Bucket("b").Put([]byte(strconv.Itoa(i)), []byte("v")); return nil })
	}
	rest := queued(s, t.Context(), fns...)
	time.Sleep(20 * time.Millisecond) // for most of them to stand in the queue; what follows is true for any number
	close(end)
	for _, err := range append(first(), rest()...) {
		if err != nil {
			t.Error(err)
		}
	}
	if n := commits.Load(); n > 20 {
		t.Errorf("41 changes took %d commits", n)
	}
	for i := range 40 {
		if get(t, s, strconv.Itoa(i)) != "v" {
			t.Errorf("the change %d is not there", i)
		}
	}
}

func TestAChangeThatFailsLeavesNoTraceAndOthersDoNotNotice(t *testing.T) {
	t.Parallel()
	s := openAt(t, statePath(t))
	failed := errors.New("failed")
	for name, fail := range map[string]func() error{
		"an error":           func() error { return failed },
		"a panic":            func() error { panic("oh") },
		"a nil dereference":  func() error { return errors.New(**new(*string)) },
		"the goroutine ends": func() error { runtime.Goexit(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			release := held(t, s)
			seen := make(chan string, 1)
			errs := queued(s, t.Context(),
				func(tx *Tx) error { tx.Bucket("b").Put([]byte("good"), []byte("v")); return nil },
				func(tx *Tx) error {
					tx.OnCommit(func() { t.Error("OnCommit ran for a change that failed") })
					tx.Bucket("b").Put([]byte("bad"), []byte("v"))
					tx.DeleteBucket("b", "deep")
					tx.Bucket("b", "deeper", "still").Put([]byte("bad"), []byte("v"))
					tx.NextSequence("b")
					return fail()
				},
				func(tx *Tx) error { seen <- string(tx.Bucket("b").Get([]byte("bad"))); return nil },
			)
			if err := release(); err != nil {
				t.Fatal(err)
			}
			got := errs()
			if got[0] != nil || got[1] == nil || got[2] != nil {
				t.Errorf("the outcomes are %v", got)
			}
			var panicked *PanicError
			if errors.As(got[1], &panicked) != strings.Contains(name, "panic") && !strings.Contains(name, "nil") {
				t.Errorf("the error is %T", got[1])
			}
			if panicked != nil && (len(panicked.Stack) == 0 || !strings.Contains(panicked.Error(), "panicked")) {
				t.Errorf("%v, with a stack of %d bytes", panicked, len(panicked.Stack))
			}
			if bad := <-seen; bad != "" {
				t.Errorf("the change beside it saw %q", bad)
			}
			if get(t, s, "good") != "v" || get(t, s, "bad") != "" {
				t.Errorf("good is %q and bad is %q", get(t, s, "good"), get(t, s, "bad"))
			}
		})
	}
}

func TestAChangeSeesThoseBeforeItInTheSameCommit(t *testing.T) {
	t.Parallel()
	s := openAt(t, statePath(t))
	release := held(t, s)
	var fns []func(*Tx) error
	for range 30 {
		fns = append(fns, func(tx *Tx) error {
			n, _ := strconv.Atoi(string(tx.Bucket("b").Get([]byte("count"))))
			tx.Bucket("b").Put([]byte("count"), []byte(strconv.Itoa(n+1)))
			return nil
		})
	}
	errs := queued(s, t.Context(), fns...)
	if err := release(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(errs()...); err != nil {
		t.Fatal(err)
	}
	if got := get(t, s, "count"); got != "30" {
		t.Errorf("30 changes counted to %s", got)
	}
}

func TestWhatFollowsACommitRunsInTheOrderOfTheChanges(t *testing.T) {
	t.Parallel()
	s := openAt(t, statePath(t))
	release := held(t, s)
	var ran, followed []int // the committer's, one after the other
	var fns []func(*Tx) error
	for i := range 20 {
		fns = append(fns, func(tx *Tx) error {
			ran = append(ran, i)
			tx.Bucket("b").Put([]byte(strconv.Itoa(i)), []byte("v"))
			for range 2 {
				tx.OnCommit(func() {
					followed = append(followed, i)
					if i == 7 {
						panic("oh")
					}
				})
			}
			return nil
		})
	}
	errs := queued(s, t.Context(), fns...)
	if err := release(); err != nil {
		t.Fatal(err)
	}
	var want []int
	for i, err := range errs() {
		if (err != nil) != (i == 7) {
			t.Errorf("change %d: %v", i, err)
		}
		if i == 7 && (err == nil || !strings.Contains(err.Error(), "is on disk")) {
			t.Errorf("what followed failed, and the error does not say that the change is there: %v", err)
		}
	}
	for _, i := range ran {
		want = append(want, i)
		if i != 7 {
			want = append(want, i)
		}
	}
	if fmt.Sprint(followed) != fmt.Sprint(want) {
		t.Errorf("the changes ran in the order %v, and what follows in the order %v", ran, followed)
	}
	if get(t, s, "7") != "v" {
		t.Error("the change whose follow-up panicked is not there")
	}
}

func TestAContextThatEndsInTheQueueTakesItsChangeOut(t *testing.T) {
	t.Parallel()
	s := openAt(t, statePath(t))
	release := held(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	errs := queued(s, ctx, func(*Tx) error { t.Error("it ran"); return nil }, func(*Tx) error { t.Error("it ran"); return nil })
	cancel()
	for _, err := range errs() { // while the committer is still held
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
}

func TestReadersNeverWaitForAChange(t *testing.T) {
	t.Parallel()
	s := openAt(t, statePath(t))
	put(t, s, "k", "before")
	began, end := make(chan struct{}), make(chan struct{})
	errs := queued(s, t.Context(), func(tx *Tx) error {
		tx.Bucket("b").Put([]byte("k"), []byte("after"))
		close(began)
		<-end
		return nil
	})
	<-began
	if got := get(t, s, "k"); got != "before" {
		t.Errorf("under a change it reads %q", got)
	}
	close(end)
	if err := errors.Join(errs()...); err != nil {
		t.Fatal(err)
	}
	if got := get(t, s, "k"); got != "after" {
		t.Errorf("after it, %q", got)
	}
}

func TestCloseWaitsForTheChangeUnderWayAndTellsTheOthersTheTruth(t *testing.T) {
	t.Parallel()
	path := statePath(t)
	s := openAt(t, path)
	began, end := make(chan struct{}), make(chan struct{})
	first := queued(s, t.Context(), func(tx *Tx) error {
		close(began)
		<-end
		tx.Bucket("b").Put([]byte("first"), []byte("v"))
		return nil
	})
	<-began
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	var fns []func(*Tx) error
	for i := range 20 {
		fns = append(fns, func(tx *Tx) error { tx.Bucket("b").Put([]byte(strconv.Itoa(i)), []byte("v")); return nil })
	}
	others := queued(s, t.Context(), fns...)
	close(end)
	if err := errors.Join(errors.Join(first()...), <-closed); err != nil {
		t.Fatal(err)
	}
	again := openAt(t, path)
	if got := get(t, again, "first"); got != "v" {
		t.Errorf("the change under way left %q", got)
	}
	for i, err := range others() {
		if err != nil && !errors.Is(err, ErrClosed) {
			t.Errorf("a change in the queue: %v", err)
		}
		if there := get(t, again, strconv.Itoa(i)) == "v"; there != (err == nil) {
			t.Errorf("a change in the queue is there: %v; it was told %v", there, err)
		}
	}
}

func TestADiskThatIsFullRefusesChangesAndReadingGoesOn(t *testing.T) {
	t.Parallel()
	s := openAt(t, statePath(t))
	put(t, s, "k", "v")
	room := s.commit
	for _, reason := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG, errors.New("file resize error: " + syscall.ENOSPC.Error())} {
		s.commit = func(b *bolt.Tx) error { return errors.Join(b.Rollback(), reason) }
		release := held(t, s)
		errs := queued(s, t.Context(),
			func(tx *Tx) error { tx.Bucket("b").Put([]byte("k"), []byte("w")); return nil },
			func(tx *Tx) error { tx.Bucket("b").Put([]byte("l"), []byte("w")); return nil },
		)
		if err := release(); err != nil {
			t.Fatal(err)
		}
		for _, err := range errs() {
			if !errors.Is(err, ErrFull) {
				t.Errorf("%v: the change is refused with %v", reason, err)
			}
		}
		if get(t, s, "k") != "v" || get(t, s, "l") != "" {
			t.Errorf("k is %q and l is %q", get(t, s, "k"), get(t, s, "l"))
		}
		s.commit = room
		put(t, s, "m", "v")
	}
}

func TestAChangeThatTheDiskDidNotConfirmStopsChanges(t *testing.T) {
	t.Parallel()
	path := statePath(t)
	s := openAt(t, path)
	put(t, s, "k", "v")
	room := s.commit
	s.commit = func(b *bolt.Tx) error { return errors.Join(b.Commit(), syscall.EIO) }
	change := func(value string) error {
		return s.Update(t.Context(), func(tx *Tx) error { tx.Bucket("b").Put([]byte("k"), []byte(value)); return nil })
	}
	if err := change("w"); !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), "did not confirm") {
		t.Errorf("the change: %v", err)
	}
	s.commit = room
	if err := change("x"); err == nil || !strings.Contains(err.Error(), "did not confirm") {
		t.Errorf("the next change: %v", err)
	}
	if got := get(t, s, "k"); got != "w" {
		t.Errorf("reading gives %q", got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openAt(t, path)
	if err := change("y"); err != nil {
		t.Errorf("when it was opened again: %v", err)
	}
}

// An I/O error before the meta page is written changes nothing, and the next change may work.
func TestAChangeThatTheDiskRefusedIsNotThere(t *testing.T) {
	t.Parallel()
	s := openAt(t, statePath(t))
	put(t, s, "k", "v")
	room := s.commit
	s.commit = func(b *bolt.Tx) error { return errors.Join(b.Rollback(), syscall.EIO) }
	if err := s.Update(t.Context(), func(tx *Tx) error { tx.Bucket("b").Put([]byte("k"), []byte("w")); return nil }); !errors.Is(err, syscall.EIO) || errors.Is(err, ErrFull) {
		t.Error(err)
	}
	s.commit = room
	put(t, s, "l", "v")
	if get(t, s, "k") != "v" || get(t, s, "l") != "v" {
		t.Errorf("k is %q and l is %q", get(t, s, "k"), get(t, s, "l"))
	}
}

// The rest of this file is run by processes of their own: one whose file may not grow, and one that is killed.

func runChild(what string) int {
	f := map[string]func(string) error{"full": childFull, "killed": childKilled}[what]
	if err := f(os.Getenv("STORE_TEST_PATH")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func child(t *testing.T, what, path string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "STORE_TEST_CHILD="+what, "STORE_TEST_PATH="+path)
	cmd.Stderr = os.Stderr
	return cmd
}

func TestAFileThatMayNotGrow(t *testing.T) {
	t.Parallel()
	if err := child(t, "full", statePath(t)).Run(); err != nil {
		t.Fatal(err)
	}
}

// childFull writes until its file is at its limit, reads, and writes again when the limit is raised.
func childFull(path string) error {
	ctx := context.Background()
	s, err := Open(path, Options{NoSync: true})
	if err != nil {
		return err
	}
	limit := func(n uint64) error {
		var l syscall.Rlimit
		if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &l); err != nil {
			return err
		}
		l.Cur = min(n, l.Max)
		return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &l)
	}
	if err := limit(3 << 20); err != nil {
		return err
	}
	kept := 0
	for ; ; kept++ {
		err = s.Update(ctx, func(tx *Tx) error {
			tx.Bucket("b").Put([]byte(strconv.Itoa(kept)), make([]byte, 100_000))
			return nil
		})
		if err != nil || kept > 100 {
			break
		}
	}
	if !errors.Is(err, ErrFull) || kept < 5 {
		return fmt.Errorf("after %d changes: %w", kept, err)
	}
	if err := s.View(ctx, func(tx *Tx) error {
		if n := tx.Bucket("b").Len(); n != kept {
			return fmt.Errorf("%d changes were acknowledged, and %d are there", kept, n)
		}
		return nil
	}); err != nil {
		return fmt.Errorf("read: %w", err)
	}
	if _, err := s.Backup(ctx, io.Discard); err != nil {
		return err
	}
	if other, err := Open(filepath.Join(filepath.Dir(path), "other.db"), Options{}); err != nil {
		return fmt.Errorf("a small state beside it: %w", err)
	} else if err := other.Close(); err != nil {
		return err
	}
	if err := limit(1 << 30); err != nil {
		return err
	}
	if err := s.Update(ctx, func(tx *Tx) error { tx.Bucket("b").Put([]byte("more"), make([]byte, 100_000)); return nil }); err != nil {
		return fmt.Errorf("when there is room again: %w", err)
	}
	if err := s.Close(); err != nil {
		return err
	}
	return Check(path)
}

// A process that is killed has every change that it told of, and none in part. (That they survive the power going
// is for a machine that loses its page cache to show.)
func TestAProcessThatIsKilled(t *testing.T) {
	t.Parallel()
	path := statePath(t)
	cmd := child(t, "killed", path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	last := 0
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if last, err = strconv.Atoi(lines.Text()); err != nil {
			t.Fatal(err)
		}
		if last == 200 {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = cmd.Wait() // that it was killed is what is wanted
	if last < 200 {
		t.Fatalf("it told of %d changes", last)
	}
	if err := Check(path); err != nil {
		t.Fatal(err)
	}
	s := openAt(t, path)
	if err := s.View(t.Context(), func(tx *Tx) error {
		one, two := tx.Bucket("one").Len(), tx.Bucket("two").Len()
		if one < last || one != two {
			t.Errorf("it told of %d changes; one half of them is there %d times, the other %d times", last, one, two)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func childKilled(path string) error {
	s, err := Open(path, Options{NoSync: true})
	if err != nil {
		return err
	}
	for i := 1; ; i++ {
		if err := s.Update(context.Background(), func(tx *Tx) error {
			tx.Bucket("one").Put([]byte(strconv.Itoa(i)), make([]byte, i*37%5000))
			tx.Bucket("two").Put([]byte(strconv.Itoa(i)), make([]byte, i*41%5000))
			return nil
		}); err != nil {
			return err
		}
		fmt.Println(i)
	}
}
