//go:build guest

package powercut

import (
	"context"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"biosv/generated"
	"biosv/internal/testbed"
)

// deaths is how often the process is killed.
const deaths = 100

// TestAcknowledgedWritesSurviveKilledProcesses kills the service on this host while clients write. What a process
// gave to the kernel stays there when it dies, so this says nothing of the disk; it says that the service never
// answers before it has given everything away, and that what it leaves behind in the middle is taken up again, by
// its TPM too.
func TestAcknowledgedWritesSurviveKilledProcesses(t *testing.T) {
	t.Parallel()
	random := dice(t, 4)
	l, found := newTeam(), &state{}
	o := testbed.Options{Data: filepath.Join(memory(t), "data"), Args: []string{"--tpm", "swtpm", "--metrics", "none", "--log-level", "warn"}}
	s := testbed.Start(t, o)
	for range deaths {
		connect := func() generated.Port { return s.Admin(t) }
		look(t, l, found, connect)
		ctx, stop := context.WithCancel(t.Context())
		var group sync.WaitGroup
		group.Go(func() { l.write(ctx, t, connect, nil) })
		time.Sleep(time.Duration(random.Int64N(int64(50 * time.Millisecond))))
		s.Kill()
		group.Wait()
		stop()
		s = testbed.Start(t, o)
	}
	look(t, l, found, func() generated.Port { return s.Admin(t) })
	t.Logf("%d operations acknowledged by %d processes that were killed", l.acknowledged.Load(), deaths)
}
