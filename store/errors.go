package store

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"syscall"

	bolterrors "go.etcd.io/bbolt/errors"
)

// The errors that callers tell apart with [errors.Is].
var (
	ErrLocked  = errors.New("another biosv uses the state")
	ErrNewer   = errors.New("the state was written by a newer version")
	ErrCorrupt = errors.New("the state is damaged")
	ErrFull    = errors.New("the disk is full")
	ErrClosed  = errors.New("the store is closed")
)

// PanicError is a panic of a function that was given to [Store.Update]. Nothing of what the function did is kept.
type PanicError struct {
	Value any    // what it panicked with
	Stack []byte // where
}

// Error tells what the function panicked with; the stack is for the log.
func (e *PanicError) Error() string {
	return fmt.Sprintf("a change of the state panicked: %v", e.Value)
}

// recovered turns a panic of bbolt, which trusts the pages that it reads, into ErrCorrupt.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = corrupt(p)
	}
}

// faulted does so for a page that could not be read at all: the disk lost it, or the file was cut short while it
// was open. Other panics are the caller's.
func faulted(err *error) {
	if p := recover(); isFault(p) {
		*err = corrupt(p)
	} else if p != nil {
		panic(p)
	}
}

func corrupt(p any) error { return fmt.Errorf("%w: %v", ErrCorrupt, p) }

// isFault tells a fault of memory access, as [debug.SetPanicOnFault] makes them panics, from other panics.
func isFault(p any) bool {
	err, ok := p.(runtime.Error)
	if !ok {
		return false
	}
	_, ok = err.(interface{ Addr() uintptr })
	return ok
}

// asCorrupt tells bbolt's word for a file that is none of its own.
func asCorrupt(err error) error {
	for _, damage := range []error{bolterrors.ErrInvalid, bolterrors.ErrChecksum, bolterrors.ErrVersionMismatch} {
		if errors.Is(err, damage) {
			return corrupt(err)
		}
	}
	return err
}

// full tells a full disk, a used quota and a file at its limit from other errors. bbolt keeps only the words of
// an error that it meets while the file grows.
func full(err error) error {
	if err == nil || errors.Is(err, ErrFull) {
		return err
	}
	for _, reason := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG} {
		if errors.Is(err, reason) || strings.HasSuffix(err.Error(), reason.Error()) {
			return fmt.Errorf("%w: %w", ErrFull, err)
		}
	}
	return err
}
