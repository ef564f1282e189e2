package backup_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"biosv/generated"
	"biosv/internal/testbios"
	"biosv/smm"
	"biosv/smm/backup"
	"biosv/store"
)

type bench struct {
	*testing.T
	*testbios.BIOS
	*backup.Function
	reopened int
	fail     error // of reopening
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{T: t, BIOS: testbios.New(t, testbios.Options{})}
	b.Function = backup.New(b.BIOS.BIOS, b.Store, func(ctx context.Context) error {
		b.reopened++
		return errors.Join(b.Close(), b.Start(ctx), b.fail)
	})
	return b
}

func (b *bench) backup() *generated.BackupStateReply {
	b.Helper()
	reply, err := b.BackupState(b.Context(), b.LocalCall(smm.PrivilegedDomain), &generated.BackupStateRequest{})
	if err != nil {
		b.Fatal(err)
	}
	return reply
}

func (b *bench) restore(archive []byte) error {
	_, err := b.RestoreState(b.Context(), b.LocalCall(smm.PrivilegedDomain), &generated.RestoreStateRequest{Archive: archive})
	return err
}

func (b *bench) put(value string) {
	b.Helper()
	if err := b.Change(b.Context(), b.LocalCall("demo"), generated.OpSetAttributes, func(tx *smm.Tx) error {
		tx.State("test").Put([]byte("k"), []byte(value))
		return nil
	}); err != nil {
		b.Fatal(err)
	}
}

func (b *bench) get() (value string) {
	b.Helper()
	if err := b.View(b.Context(), b.LocalCall("demo"), func(tx *smm.Tx) error { value = string(tx.State("test").Get([]byte("k"))); return nil }); err != nil {
		b.Fatal(err)
	}
	return value
}

func unzip(t *testing.T, archive []byte) []byte {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	state, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return state
}

func zip(t *testing.T, state []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(state); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestABackupIsRestored(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.put("then")
	reply := b.backup()
	if reply.SizeBytes != uint64(len(unzip(t, reply.Archive))) || reply.Sha256 != fmt.Sprintf("%x", sha256.Sum256(reply.Archive)) {
		t.Errorf("the archive is said to hold %d bytes, and its SHA-256 to be %s", reply.SizeBytes, reply.Sha256)
	}
	b.put("now")
	machine := b.Fake("demo")
	restored, err := b.RestoreState(t.Context(), b.LocalCall(smm.PrivilegedDomain), &generated.RestoreStateRequest{Archive: reply.Archive})
	if err != nil || restored.SchemaVersion != uint32(store.SchemaVersion()) {
		t.Fatalf("schema %v, %v", restored, err)
	}
	if got := b.get(); got != "then" {
		t.Errorf("the state is %q", got)
	}
	if b.reopened != 1 || !machine.Closed() || b.Fake("demo").Closed() {
		t.Error("the machines do not follow")
	}
	events := b.Events(smm.PrivilegedDomain)
	if last := events[len(events)-1]; last.MessageId != "BiosV.1.0.StateRestored" || !strings.Contains(last.Message, reply.Sha256) {
		t.Errorf("the last event is %+v", last)
	}
	rows := b.Rows()
	if last := rows[len(rows)-1]; last.Operation != "RestoreState" || last.Outcome != "Done" {
		t.Errorf("the last audit row is %+v", last)
	}
}

func TestAnArchiveThatIsNotRightIsRefusedAndChangesNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.put("now")
	archive := b.backup().Archive
	state := unzip(t, archive)
	damaged := func(at int) []byte {
		copied := bytes.Clone(archive)
		copied[at] ^= 0xff
		return copied
	}
	page := bytes.Clone(state)
	for at := 2 * 4096; at < len(page); at += 4096 {
		page[at+8] = 0xff
	}
	for name, archive := range map[string][]byte{
		"nothing": nil, "a text": []byte("no archive"), "a damaged header": damaged(0), "a damaged stream": damaged(len(archive) / 2), "a damaged checksum": damaged(len(archive) - 5),
		"half of it": archive[:len(archive)/2], "all but a byte": archive[:len(archive)-1], "something behind it": append(bytes.Clone(archive), 1),
		"the state itself": state, "half a state": zip(t, state[:len(state)/2]), "a damaged state": zip(t, page), "an empty state": zip(t, nil), "no state": zip(t, []byte(strings.Repeat("x", 100_000))),
	} {
		var f *generated.IntegrityFault
		if err := b.restore(archive); !errors.As(err, &f) || f.Code != "DamagedArchive" || f.ElementPath != "/RestoreState/Archive" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if b.get() != "now" || b.reopened != 0 {
		t.Errorf("the state is %q, and the machines were opened %d times anew", b.get(), b.reopened)
	}
}

// endless gives zeros and counts them.
type endless struct{ given int64 }

func (e *endless) Backup(context.Context, io.Writer) (int64, error) { return 0, errors.New("not here") }

func (e *endless) Restore(_ context.Context, r io.Reader) (schema int, err error) {
	e.given, err = io.Copy(io.Discard, r)
	return 0, fmt.Errorf("restore: %w", err)
}

// A small archive may hold a vast file. It is unpacked no further than the limit.
func TestAnArchiveThatHoldsTooMuchIsRefused(t *testing.T) {
	t.Parallel()
	const most = 10 << 20
	b := testbios.New(t, testbios.Options{})
	state := &endless{}
	f := backup.New(b.BIOS, state, func(context.Context) error { t.Error("the machines were opened anew"); return nil })
	f.Limit(most)
	bomb := zip(t, make([]byte, most+1))
	_, err := f.RestoreState(t.Context(), b.LocalCall(smm.PrivilegedDomain), &generated.RestoreStateRequest{Archive: bomb})
	var limit *generated.LimitExceededFault
	if !errors.As(err, &limit) || limit.LimitValue != most || state.given != most || len(bomb) > most/100 {
		t.Errorf("%v; of an archive of %d bytes %d were unpacked", err, len(bomb), state.given)
	}
}

func TestNothingIsRestoredWhileAMachineActs(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	archive := b.backup().Archive
	began, end, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		done <- b.Act(context.Background(), b.LocalCall("demo"), generated.OpResetSystem, smm.Action{
			Intend: func(*smm.Tx) error { return nil },
			Act:    func(context.Context, smm.Machine) error { close(began); <-end; return nil },
		})
	}()
	<-began
	var f *generated.ConflictFault
	if err := b.restore(archive); !errors.As(err, &f) || f.Code != "OperationUnderWay" {
		t.Errorf("meanwhile: %v", err)
	}
	close(end)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := b.restore(archive); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestMachinesThatCannotFollowAreToldOf(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.fail = errors.New("no machine today")
	if err := b.restore(b.backup().Archive); !errors.Is(err, b.fail) || !strings.Contains(err.Error(), "the state was restored") {
		t.Error(err)
	}
}
