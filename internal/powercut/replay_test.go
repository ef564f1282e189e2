//go:build guest

package powercut

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"
)

const (
	// cuts is how many instants between flushes are looked at, of each kind.
	cuts = 100
	// block is what a disk keeps or loses as a whole: what its file system takes for granted.
	block = 4096
	// flushes is how many the log must have, so that it says something.
	flushes = 50
)

// TestAcknowledgedWritesAreThereAtEveryFlush has a log taken of all that a machine writes to its disk, and makes
// from it the disk as a power cut would have left it: at every flush, at random instants, and at random instants
// where the disk, whose cache lost its power too, kept only some of the blocks that it was given since the last
// flush. Every one of these disks must have every operation that was acknowledged before, whole.
//
// What was acknowledged before an instant of the log: with each answer, the writer reads how many requests the log
// tells of. QEMU logs a flush, and brings that number up to date, before the guest learns that the flush is done;
// so when an answer that waited for a flush is here, the number counts that flush. A disk that has done at least so
// many requests must have the operation. The number may count requests that came after the flush: then the test asks
// a little less of the few disks between the two, and never too much.
func TestAcknowledgedWritesAreThereAtEveryFlush(t *testing.T) {
	t.Parallel()
	random := dice(t, 2)
	b := newBox(t)
	empty, err := os.ReadFile(b.disk)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "log")
	g := b.on(t, path)
	log, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	b.ready(t, g)
	l := newTeam()
	l.cut(t, g, b.connect(t, g), func() (int, error) { return Logged(log) }, 100, after(random))
	b.off(t, g)

	writes, err := ReadLog(log, diskSize)
	if err != nil {
		t.Fatal(err)
	}
	instants := instantsOf(writes, random)
	n := 0
	for _, i := range instants {
		if i.kind == atFlush {
			n++
		}
	}
	if n < flushes {
		t.Fatalf("the log has %d flushes, which are too few to tell", n)
	}
	began := time.Now()
	replay(t, empty, writes, instants, l)
	t.Logf("%d operations, %d requests to the disk, %d flushes; %d disks looked at in %s", l.acknowledged.Load(), len(writes.Entries), n, len(instants), time.Since(began).Round(time.Millisecond))
}

// instant is a cutKind at which the power is cut.
type instant struct {
	kind cutKind
	done int     // requests of the log that the disk has done, all of them
	some []Entry // and what it kept of those that followed
}

type cutKind string

const (
	atFlush cutKind = "at a flush"
	between cutKind = "between flushes"
	torn    cutKind = "between flushes, with blocks lost"
)

// instantsOf gives every flush, and random instants, in the order of the log.
func instantsOf(l *Log, random *rand.Rand) (list []instant) {
	last := make([]int, len(l.Entries)+1) // at each instant, the requests up to the last flush
	for i, e := range l.Entries {
		last[i+1] = last[i]
		if e.Durable() {
			last[i+1] = i + 1
			list = append(list, instant{kind: atFlush, done: i + 1})
		}
	}
	for range cuts {
		list = append(list, instant{kind: between, done: random.IntN(len(last))})
		at := random.IntN(len(last))
		cut := instant{kind: torn, done: last[at]}
		for _, e := range l.Entries[last[at]:at] {
			for b := range e.Blocks(block) {
				if e.Flags&FUA != 0 || random.IntN(2) == 0 {
					cut.some = append(cut.some, b)
				}
			}
		}
		list = append(list, cut)
	}
	slices.SortStableFunc(list, func(x, y instant) int { return x.done - y.done })
	return list
}

// replay looks at the disk of each instant, on all processors.
func replay(t *testing.T, empty []byte, writes *Log, instants []instant, l *team) {
	t.Helper()
	const workers = 2
	var group sync.WaitGroup
	for worker := range workers {
		part := instants[worker*len(instants)/workers : (worker+1)*len(instants)/workers]
		group.Go(func() {
			v := newView(t, empty, writes)
			for _, i := range part {
				if err := v.look(t, i, l); err != nil {
					t.Errorf("%s, after %d of %d requests: %v", i.kind, i.done, len(writes.Entries), err)
				}
			}
		})
	}
	group.Wait()
}

// view is a disk whose log is followed forwards.
type view struct {
	log   *Log
	done  int
	image []byte
	used  []bool // blocks that were ever other than zero
	dir   string
}

func newView(t *testing.T, empty []byte, l *Log) *view {
	v := &view{log: l, image: bytes.Clone(empty), used: make([]bool, len(empty)/block), dir: memory(t)}
	zero := make([]byte, block)
	for i := range v.used {
		v.used[i] = !bytes.Equal(v.image[i*block:(i+1)*block], zero)
	}
	return v
}

func (v *view) look(t *testing.T, i instant, l *team) error {
	for ; v.done < i.done; v.done++ {
		e := v.log.Entries[v.done]
		e.Apply(v.image)
		for at := e.Offset / block; at*block < e.Offset+int64(len(e.Data)); at++ {
			v.used[at] = true
		}
	}
	disk := filepath.Join(v.dir, "disk")
	if err := v.write(disk, i.some); err != nil {
		return err
	}
	return inspect(t, disk, v.dir, l, when(i.done))
}

// write writes the image, and blocks over it, as a file with holes.
func (v *view) write(path string, over []Entry) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(int64(len(v.image))); err != nil {
		return err
	}
	for from := 0; from < len(v.used); from++ {
		to := from
		for to < len(v.used) && v.used[to] {
			to++
		}
		if _, err := f.WriteAt(v.image[from*block:to*block], int64(from*block)); err != nil {
			return fmt.Errorf("write the disk: %w", err)
		}
		from = to
	}
	for _, e := range over {
		if _, err := f.WriteAt(e.Data, e.Offset); err != nil {
			return fmt.Errorf("write the disk: %w", err)
		}
	}
	return nil
}
