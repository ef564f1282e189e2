package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"slices"
	"syscall"
)

// bbolt maps its file into memory and follows what it finds there: over a page that is damaged or missing it
// panics, faults, or runs in a circle until the stack ends the process. So every page that can be reached is
// followed here first, with bounds, before bbolt sees the file. The format is bbolt's version 2: its packages
// internal/common and internal/freelist. It has no checksums but in the two meta pages, so a value that was
// changed in place is not noticed here.

const (
	pageHeader   = 16 // id 8, flags 2, count 2, overflow 4
	element      = 16 // of a leaf: flags 4, position 4, key size 4, value size 4; of a branch: position 4, key size 4, page 8
	bucketHeader = 16 // root page 8, sequence 8
	metaSize     = 64 // magic 4, version 4, page size 4, flags 4, root 16, free list 8, pages 8, transaction 8, checksum 8

	branchPage   = 0x01
	leafPage     = 0x02
	freelistPage = 0x10
	bucketFlag   = 0x01 // of a leaf's element: its value is a bucket

	boltMagic   = 0xED0CDAED
	boltVersion = 2
	noFreelist  = ^uint64(0)
	mostOnPage  = 0xFFFF // of a free list's count: the true one is its first element
)

var order = binary.NativeEndian

// openChecked opens a file for bbolt, takes the lock that bbolt would take, and follows its pages. An empty file
// is bbolt's to fill.
func openChecked(name string, flag int, mode os.FileMode) (*os.File, error) {
	f, err := os.OpenFile(name, flag, mode)
	if err != nil {
		return nil, err
	}
	how := syscall.LOCK_SH
	if flag&os.O_RDWR != 0 {
		how = syscall.LOCK_EX
	}
	err = syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = ErrLocked
	}
	if err == nil {
		err = checkPages(f)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// pages is a file of bbolt's that is being followed.
type pages struct {
	file  io.ReaderAt
	size  uint64 // of a page
	count uint64
	seen  []bool // by page; each must be met once
}

// checkPages follows a file from its newest meta page.
func checkPages(f *os.File) error {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return err
	}
	meta, size := newestMeta(f, info.Size())
	if meta == nil {
		return fmt.Errorf("%w: it has no valid meta page", ErrCorrupt)
	}
	p := &pages{file: f, size: size, count: order.Uint64(meta[40:])}
	if p.count > uint64(info.Size())/size {
		return fmt.Errorf("%w: it has %d bytes, and should have %d pages of %d", ErrCorrupt, info.Size(), p.count, size)
	}
	if p.count < 4 {
		return fmt.Errorf("%w: it has %d pages", ErrCorrupt, p.count)
	}
	p.seen = make([]bool, p.count)
	p.seen[0], p.seen[1] = true, true
	if err := p.checkTree(order.Uint64(meta[16:]), nil, nil); err != nil {
		return err
	}
	if free := order.Uint64(meta[32:]); free != noFreelist {
		return p.checkFreelist(free)
	}
	return nil
}

// newestMeta gives the valid meta page of the later transaction, as bbolt would choose it, and the size of pages.
// The size stands in the meta pages; where the first is damaged, the second is looked for behind pages of every
// size.
func newestMeta(f io.ReaderAt, length int64) (newest []byte, size uint64) {
	read := func(at int64) []byte {
		page := make([]byte, pageHeader+metaSize)
		if _, err := f.ReadAt(page, at); err != nil {
			return nil
		}
		meta := page[pageHeader:]
		sum := fnv.New64a()
		sum.Write(meta[:metaSize-8])
		if order.Uint32(meta) != boltMagic || order.Uint32(meta[4:]) != boltVersion || order.Uint64(meta[metaSize-8:]) != sum.Sum64() {
			return nil
		}
		if s := order.Uint32(meta[8:]); s < 1024 || s > 1024<<14 || s&(s-1) != 0 {
			return nil
		}
		return meta
	}
	first := read(0)
	for at := int64(1024); at <= 1024<<14 && at < length; at *= 2 {
		if first != nil && at != int64(order.Uint32(first[8:])) {
			continue
		}
		second := read(at)
		if second == nil || int64(order.Uint32(second[8:])) != at {
			continue
		}
		if first == nil || order.Uint64(second[48:]) > order.Uint64(first[48:]) {
			return second, uint64(at)
		}
	}
	if first == nil {
		return nil, 0
	}
	return first, uint64(order.Uint32(first[8:]))
}

// read gives a page with those that it runs over, which nobody may have met yet.
func (p *pages) read(id uint64) ([]byte, error) {
	if id < 2 || id >= p.count {
		return nil, fmt.Errorf("%w: page %d of %d is referred to", ErrCorrupt, id, p.count)
	}
	header := make([]byte, pageHeader)
	if _, err := p.file.ReadAt(header, int64(id*p.size)); err != nil {
		return nil, fmt.Errorf("%w: read page %d: %w", ErrCorrupt, id, err)
	}
	last := id + uint64(order.Uint32(header[12:]))
	if order.Uint64(header) != id || last >= p.count {
		return nil, fmt.Errorf("%w: page %d says that it is page %d, to %d of %d", ErrCorrupt, id, order.Uint64(header), last, p.count)
	}
	for i := id; i <= last; i++ {
		if p.seen[i] {
			return nil, fmt.Errorf("%w: page %d is referred to twice", ErrCorrupt, i)
		}
		p.seen[i] = true
	}
	page := make([]byte, (last-id+1)*p.size)
	if _, err := p.file.ReadAt(page, int64(id*p.size)); err != nil {
		return nil, fmt.Errorf("%w: read page %d: %w", ErrCorrupt, id, err)
	}
	return page, nil
}

// checkTree follows a branch or a leaf whose keys must be from least on and below limit; nil is no bound.
func (p *pages) checkTree(id uint64, least, limit []byte) error {
	page, err := p.read(id)
	if err != nil {
		return err
	}
	if order.Uint16(page[8:]) == branchPage {
		err = p.checkBranch(page, least, limit)
	} else {
		err = p.checkLeaf(page, least, limit, true)
	}
	if err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	return nil
}

func (p *pages) checkBranch(page, least, limit []byte) error {
	count := int(order.Uint16(page[10:]))
	if count == 0 || pageHeader+count*element > len(page) {
		return fmt.Errorf("%w: a branch of %d elements", ErrCorrupt, count)
	}
	keys := make([][]byte, count)
	for i := range count {
		at := pageHeader + i*element
		key, _, err := within(page, at, order.Uint32(page[at:]), order.Uint32(page[at+4:]), 0)
		if err != nil {
			return err
		}
		keys[i] = key
	}
	if err := checkOrder(keys, least, limit); err != nil {
		return err
	}
	for i := range count {
		next := limit
		if i+1 < count {
			next = keys[i+1]
		}
		if err := p.checkTree(order.Uint64(page[pageHeader+i*element+8:]), keys[i], next); err != nil {
			return err
		}
	}
	return nil
}

// checkLeaf follows a leaf, which may be the value of a small bucket and then holds no buckets.
func (p *pages) checkLeaf(page, least, limit []byte, buckets bool) error {
	flags, count := order.Uint16(page[8:]), int(order.Uint16(page[10:]))
	if flags != leafPage || pageHeader+count*element > len(page) {
		return fmt.Errorf("%w: a leaf with flags %#x and %d elements", ErrCorrupt, flags, count)
	}
	keys := make([][]byte, count)
	for i := range count {
		at := pageHeader + i*element
		key, value, err := within(page, at, order.Uint32(page[at+4:]), order.Uint32(page[at+8:]), order.Uint32(page[at+12:]))
		if err != nil {
			return err
		}
		keys[i] = key
		switch kind := order.Uint32(page[at:]); {
		case kind == bucketFlag && buckets:
			if err := p.checkBucket(value); err != nil {
				return fmt.Errorf("bucket %q: %w", key, err)
			}
		case kind != 0:
			return fmt.Errorf("%w: %q is of kind %#x", ErrCorrupt, key, kind)
		}
	}
	return checkOrder(keys, least, limit)
}

func (p *pages) checkBucket(value []byte) error {
	if len(value) < bucketHeader {
		return fmt.Errorf("%w: its header has %d bytes", ErrCorrupt, len(value))
	}
	if root := order.Uint64(value); root != 0 {
		return p.checkTree(root, nil, nil)
	}
	inside := value[bucketHeader:]
	if len(inside) < pageHeader || order.Uint64(inside) != 0 || order.Uint32(inside[12:]) != 0 {
		return fmt.Errorf("%w: its page is damaged", ErrCorrupt)
	}
	return p.checkLeaf(inside, nil, nil, false)
}

// within gives the key and the value of the element at a place in a page.
func within(page []byte, at int, position, keySize, valueSize uint32) (key, value []byte, err error) {
	from := uint64(at) + uint64(position)
	middle := from + uint64(keySize)
	end := middle + uint64(valueSize)
	if keySize == 0 || keySize > MaxKey || end > uint64(len(page)) {
		return nil, nil, fmt.Errorf("%w: an element from %d to %d in a page of %d", ErrCorrupt, from, end, len(page))
	}
	return page[from:middle], page[middle:end], nil
}

func checkOrder(keys [][]byte, least, limit []byte) error {
	for i, key := range keys {
		if i > 0 && bytes.Compare(keys[i-1], key) >= 0 || i == 0 && least != nil && bytes.Compare(key, least) < 0 || limit != nil && bytes.Compare(key, limit) >= 0 {
			return fmt.Errorf("%w: the key %q is out of its order", ErrCorrupt, key)
		}
	}
	return nil
}

// checkFreelist follows the list of pages that may be written: one of them that is in use would be lost.
func (p *pages) checkFreelist(id uint64) error {
	page, err := p.read(id)
	if err != nil {
		return err
	}
	count, ids := uint64(order.Uint16(page[10:])), page[pageHeader:]
	if count == mostOnPage {
		count, ids = order.Uint64(ids), ids[8:]
	}
	if order.Uint16(page[8:]) != freelistPage || count > uint64(len(ids)/8) {
		return fmt.Errorf("%w: the list of free pages is damaged", ErrCorrupt)
	}
	free := make([]uint64, count)
	for i := range free {
		free[i] = order.Uint64(ids[i*8:])
	}
	slices.Sort(free)
	for i, id := range free {
		if id < 2 || id >= p.count || p.seen[id] || i > 0 && free[i-1] == id {
			return fmt.Errorf("%w: page %d is said to be free", ErrCorrupt, id)
		}
	}
	return nil
}
