//go:build guest

package powercut

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"biosv/generated"
	"biosv/machine/host"
	"biosv/machine/sim"
	"biosv/security/audit"
	"biosv/smm"
	"biosv/smm/attribute"
	"biosv/smm/domain"
	"biosv/smm/eventlog"
	"biosv/store"
)

// errNoState says that a disk has no state yet.
var errNoState = errors.New("the disk has no state")

// stateFile is where the state is on the disk.
const stateFile = "/biosv/state.db"

// salvage does to a disk what a machine does at its next start, and takes the state out: the file system is
// recovered from its journal and checked, with what e2fsck corrects by itself at a start.
func salvage(t *testing.T, disk, to string) error {
	t.Helper()
	if said, status := run(t, "e2fsck", "-fp", disk); status > 1 {
		return fmt.Errorf("e2fsck ends with %d: %s", status, said)
	}
	if err := os.Remove(to); err != nil && !os.IsNotExist(err) {
		return err
	}
	said, status := run(t, "debugfs", "-R", "dump "+stateFile+" "+to, disk)
	if strings.Contains(said, "File not found") {
		return errNoState
	}
	if _, err := os.Stat(to); err != nil || status != 0 {
		return fmt.Errorf("debugfs: %s", said)
	}
	return nil
}

// inspect reads the state of a disk, as the functions of the service read it, and judges it.
func inspect(t *testing.T, disk, scratch string, l *team, b bounds) error {
	t.Helper()
	file := filepath.Join(scratch, "state.db")
	if err := salvage(t, disk, file); errors.Is(err, errNoState) {
		for _, w := range l.writers {
			if least, _ := b(w); least > 0 {
				return fmt.Errorf("%s: %w: %w, and %d operations were acknowledged", w.domain, errLost, err, least)
			}
		}
		return nil
	} else if err != nil {
		return err
	}
	// A process that is started meanwhile would have the file, with its lock, for the moment until it is another
	// program.
	syscall.ForkLock.RLock()
	err := store.Check(file)
	syscall.ForkLock.RUnlock()
	if err != nil {
		return err
	}
	s, err := store.Open(file, store.Options{NoSync: true})
	if err != nil {
		return err
	}
	port, end, err := functions(t.Context(), s, func(*smm.BIOS) error { return nil })
	if err != nil {
		return errors.Join(err, s.Close())
	}
	found := &state{}
	err = found.read(t.Context(), port)
	if err == nil {
		_, err = found.judge(l, b)
	}
	return errors.Join(err, end(), s.Close())
}

// functions are those of the service that writers use, over a state that no service has open; begin prepares it.
func functions(ctx context.Context, s *store.Store, begin func(*smm.BIOS) error) (port generated.Port, end func() error, err error) {
	rows, log := audit.New(time.Now), slog.New(slog.DiscardHandler)
	refusals := audit.NewRefusals(rows, s, log)
	b := smm.New(smm.Config{
		Store: s, Ledger: eventlog.NewLedger(rows, refusals), Log: log,
		Machines: map[generated.DomainKind]smm.Opener{generated.DomainKindPrivileged: host.Open, generated.DomainKindSimulated: sim.Open},
	})
	end = func() error { refusals.Close(); return b.Close() }
	attributes := attribute.New(b)
	if err := begin(b); err != nil {
		return nil, nil, errors.Join(err, end())
	}
	if err := b.Start(ctx); err != nil {
		return nil, nil, errors.Join(err, end())
	}
	logs := eventlog.New(b, rows)
	answering := generated.PortHandler(generated.Functions{AttributePort: attributes, DomainPort: domain.New(b, nil), EventlogPort: logs, AuditPort: logs})
	return generated.HandlerPort(local{answering}), end, nil
}

// local names the privileged domain where a call names none, as the door does by the address.
type local struct{ generated.Handler }

// Handle answers.
func (l local) Handle(ctx context.Context, call generated.Call, request generated.Request) (generated.Reply, error) {
	if call.Domain == "" {
		call.Domain = privileged
	}
	return l.Handler.Handle(ctx, call, request)
}
