// Package powercut holds the evidence that an acknowledged change survives a power cut: tests that start the
// program in a guest, write to it from this host, and kill the guest while it works; and that cut the power at
// every flush of a disk whose writes were logged. [Log] reads such a log and makes the disk of any moment. The
// tests need QEMU and take a minute; they are run with
//
//	go test -tags guest ./internal/powercut
package powercut

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
)

// Log is a log of a disk's writes in the format of the device mapper's log-writes target (Linux,
// Documentation/admin-guide/device-mapper/log-writes.rst), as QEMU's driver blklogwrites makes it. QEMU logs a
// write when the disk has it, and only then tells the guest.
type Log struct {
	SectorSize int
	Entries    []Entry
}

// Entry is one request to the disk.
type Entry struct {
	Flags  Flags
	Offset int64  // in bytes
	Length int64  // in bytes, of what is written or discarded
	Data   []byte // empty where nothing is written
}

// Flags say what a request is.
type Flags uint64

// The flags (drivers/md/dm-log-writes.c).
const (
	Flush    Flags = 1 << iota // what was written before is to be kept
	FUA                        // this write is to be kept
	Discard                    // the sectors' content is of no interest any more
	Mark                       // a note of somebody who made the log
	Metadata                   // the file system says that this is metadata
)

// Durable says whether the disk promises, with this request, to keep what was written before.
func (e Entry) Durable() bool { return e.Flags&Flush != 0 }

const (
	logMagic   = 0x6a736677736872
	logVersion = 1
	superSize  = 8 + 8 + 8 + 4
	entrySize  = 8 + 8 + 8 + 8

	mostSectorSize = 64 << 10
	mostEntries    = 1 << 24
)

// ErrLog is what is wrong with a log.
var ErrLog = errors.New("not a log of writes")

// Logged gives how many requests a log that is still being written tells of. QEMU brings the number up to date with
// every flush, before the guest learns that the flush is done.
func Logged(log io.ReaderAt) (int, error) {
	n, _, err := readSuper(log)
	return n, err
}

func readSuper(log io.ReaderAt) (entries, sectorSize int, err error) {
	super := make([]byte, superSize)
	if _, err := log.ReadAt(super, 0); err != nil {
		return 0, 0, fmt.Errorf("%w: read its head: %w", ErrLog, err)
	}
	magic, version := binary.LittleEndian.Uint64(super), binary.LittleEndian.Uint64(super[8:])
	count, size := binary.LittleEndian.Uint64(super[16:]), binary.LittleEndian.Uint32(super[24:])
	switch {
	case magic != logMagic:
		return 0, 0, fmt.Errorf("%w: it begins with %#x, and should with %#x", ErrLog, magic, uint64(logMagic))
	case version != logVersion:
		return 0, 0, fmt.Errorf("%w: its version is %d, and %d is understood", ErrLog, version, logVersion)
	case count > mostEntries:
		return 0, 0, fmt.Errorf("%w: it has %d entries, and at most %d are read", ErrLog, count, mostEntries)
	case size < 512 || size > mostSectorSize || size&(size-1) != 0:
		return 0, 0, fmt.Errorf("%w: its sectors have %d bytes; a power of two from 512 to %d is right", ErrLog, size, mostSectorSize)
	}
	return int(count), int(size), nil
}

// ReadLog reads the log of a disk of so many bytes, of which no request may go beyond the end.
func ReadLog(log io.ReaderAt, diskSize int64) (*Log, error) {
	count, sector, err := readSuper(log)
	if err != nil {
		return nil, err
	}
	l := &Log{SectorSize: sector, Entries: make([]Entry, 0, min(count, 1<<16))}
	at := int64(sector)
	for i := range count {
		e, next, err := readEntry(log, at, int64(sector), diskSize)
		if err != nil {
			return nil, fmt.Errorf("%w: entry %d of %d, at byte %d: %w", ErrLog, i+1, count, at, err)
		}
		l.Entries = append(l.Entries, e)
		at = next
	}
	return l, nil
}

// readEntry reads the entry at a place, and gives the place of the next one: an entry takes a sector, and what
// was written follows it.
func readEntry(log io.ReaderAt, at, sector, diskSize int64) (e Entry, next int64, err error) {
	head := make([]byte, entrySize)
	if _, err := log.ReadAt(head, at); err != nil {
		return e, 0, err
	}
	first, count := binary.LittleEndian.Uint64(head), binary.LittleEndian.Uint64(head[8:])
	flags, note := Flags(binary.LittleEndian.Uint64(head[16:])), binary.LittleEndian.Uint64(head[24:])
	if flags&^(Flush|FUA|Discard|Mark|Metadata) != 0 {
		return e, 0, fmt.Errorf("flags %#x are not known", uint64(flags))
	}
	next = at + sector
	if flags&Mark != 0 { // its text shares the sector, and is at most the rest of it
		if note > uint64(sector-entrySize) || count != 0 {
			return e, 0, fmt.Errorf("a mark of %d bytes and %d sectors", note, count)
		}
		return Entry{Flags: flags}, next, nil
	}
	if most := uint64(diskSize / sector); count > most || first > most-count {
		return e, 0, fmt.Errorf("sectors %d to %d are written, and the disk has %d", first, first+count, most)
	}
	e = Entry{Flags: flags, Offset: int64(first) * sector, Length: int64(count) * sector}
	if flags&Discard != 0 || count == 0 {
		return e, next, nil
	}
	e.Data = make([]byte, e.Length)
	if _, err := log.ReadAt(e.Data, next); err != nil {
		return e, 0, fmt.Errorf("what was written: %w", err)
	}
	return e, next + e.Length, nil
}

// Apply does to an image what a request did to the disk. What a disk gives for discarded sectors is not known, so
// they stay as they were, which is the least that can be relied on.
func (e Entry) Apply(image []byte) { copy(image[e.Offset:], e.Data) }

// Blocks gives what a request writes block by block of the disk: one that loses power in the middle of a request
// may have done any of them.
func (e Entry) Blocks(size int64) iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		for at := e.Offset; at < e.Offset+int64(len(e.Data)); {
			end := min(e.Offset+int64(len(e.Data)), at-at%size+size)
			if !yield(Entry{Flags: e.Flags, Offset: at, Length: end - at, Data: e.Data[at-e.Offset : end-e.Offset]}) {
				return
			}
			at = end
		}
	}
}
