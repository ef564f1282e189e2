// Package backup copies the service's whole state out, while it runs, and puts such a copy in its place. The
// state holds no private key: those are the TPM's, or stand in files of their own.
package backup

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"biosv/fault"
	"biosv/generated"
	"biosv/smm"
	"biosv/store"
)

// MostBytes bounds a state that is restored, after decompression.
const MostBytes = 1 << 30

// State is the store as a whole.
type State interface {
	// Backup writes a consistent copy.
	Backup(ctx context.Context, w io.Writer) (int64, error)
	// Restore checks a copy, puts it in the state's place and gives its schema version. What was there before
	// is kept beside it. store.ErrCorrupt and store.ErrNewer say that the copy is none that can be used.
	Restore(ctx context.Context, r io.Reader) (schema int, err error)
}

// Function answers [generated.BackupPort].
type Function struct {
	bios  *smm.BIOS
	state State
	// reopen is run after a restore, when the machines must follow the new state.
	reopen func(context.Context) error
	most   int64 // MostBytes, except in tests
}

// New makes the function; reopen opens the machines anew after a restore.
func New(b *smm.BIOS, state State, reopen func(context.Context) error) *Function {
	return &Function{bios: b, state: state, reopen: reopen, most: MostBytes}
}

var _ generated.BackupPort = (*Function)(nil)

// BackupState gives a copy.
func (f *Function) BackupState(ctx context.Context, _ generated.Call, _ *generated.BackupStateRequest) (*generated.BackupStateReply, error) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	size, err := f.state.Backup(ctx, z)
	if err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, fmt.Errorf("compress the backup: %w", err)
	}
	return &generated.BackupStateReply{Archive: b.Bytes(), SizeBytes: uint64(size), Sha256: fmt.Sprintf("%x", sha256.Sum256(b.Bytes()))}, nil
}

// RestoreState puts a copy in the state's place.
func (f *Function) RestoreState(ctx context.Context, call generated.Call, request *generated.RestoreStateRequest) (*generated.RestoreStateReply, error) {
	if n, err := f.bios.OpenIntents(ctx); err != nil {
		return nil, err
	} else if n > 0 {
		return nil, fault.Conflict(fault.OperationUnderWay, "Machines are acting on %d operations: try again when they are done.", n)
	}
	z, err := gzip.NewReader(bytes.NewReader(request.Archive))
	if err != nil {
		return nil, damaged(err)
	}
	schema, err := f.state.Restore(ctx, &bounded{r: z, most: f.most, left: f.most})
	var deflate flate.CorruptInputError
	if errors.As(err, &deflate) || errors.Is(err, store.ErrCorrupt) || errors.Is(err, store.ErrNewer) || errors.Is(err, gzip.ErrChecksum) || errors.Is(err, gzip.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, damaged(err)
	}
	if err != nil {
		return nil, err
	}
	if err := f.reopen(ctx); err != nil {
		return nil, fmt.Errorf("the state was restored, and the machines could not follow it: %w", err)
	}
	if err := f.bios.Change(ctx, call, generated.OpRestoreState, func(tx *smm.Tx) error {
		tx.Event(smm.Event{
			Severity: generated.EventSeverityWarning, MessageID: "BiosV.1.0.StateRestored",
			Message: fmt.Sprintf("The state was replaced by a backup of SHA-256 %x.", sha256.Sum256(request.Archive)),
		})
		return nil
	}); err != nil {
		return nil, err
	}
	return &generated.RestoreStateReply{SchemaVersion: uint32(schema)}, nil
}

func damaged(err error) error {
	return fault.Integrity(fault.DamagedArchive, "/RestoreState/Archive", "The archive is no backup of a BIOS.v state (gzip of what BackupState gave): %v.", err)
}

// bounded fails, rather than ends, when more comes than allowed: a small archive can hold a vast file.
type bounded struct {
	r          io.Reader
	most, left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fault.LimitExceeded(fault.TooLarge, "state", uint64(b.most), "The archive holds more than %d bytes.", b.most)
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}
