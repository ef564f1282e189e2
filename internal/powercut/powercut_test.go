//go:build guest

package powercut

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"biosv/generated"
	"biosv/internal/guest"
	"biosv/store"
)

// after is how long the power stays on once there is something to lose. The guest is emulated: on a machine that is
// not busy it does 300 operations in a second, on one that is, far fewer.
func after(random *rand.Rand) time.Duration { return time.Duration(random.Int64N(int64(time.Second))) }

// TestAcknowledgedWritesSurvivePowerCuts cuts the power at random instants while clients write, and the guest of a
// virtual machine too, and asks the service each time, after a start with the same disk and TPM. In the end the TPM
// goes on and only the process dies.
func TestAcknowledgedWritesSurvivePowerCuts(t *testing.T) {
	t.Parallel()
	random := dice(t, 1)
	b, w := newBox(t), newGuestWrites(t)
	b.files = guestFiles(t)
	l, found := newTeam(), &state{}
	begin := func(g *guest.Guest) {
		b.ready(t, g)
		connect := b.connect(t, g)
		look(t, l, found, connect)
		if found.domains[machineName] == nil {
			w.create(t, connect())
		} else if err := w.judge(t.Context(), connect(), found); err != nil {
			t.Fatal(err)
		}
		w.start(t, g, connect())
	}
	for kill := range kills(t) {
		g := b.on(t, "")
		if kill > 0 && random.IntN(5) == 0 { // the next cut comes while the one before is recovered from
			g.Await(t, "guest: done: network")
			time.Sleep(after(random))
			b.off(t, g)
			t.Logf("power cut %d, during the start", kill+1)
			continue
		}
		begin(g)
		before, told := l.acknowledged.Load(), w.told
		l.cut(t, g, b.connect(t, g), nil, writers, after(random))
		b.off(t, g)
		w.hear(t, g.Lines())
		t.Logf("power cut %d, after %d operations were acknowledged, and %d to the guest", kill+1, l.acknowledged.Load()-before, w.told-told)
	}
	g := b.on(t, "")
	begin(g)
	b.restart(t, g, l, found, random)
	w.power(t, b.connect(t, g)(), generated.ResetTypeForceOff)
	look(t, l, found, b.connect(t, g))
	w.hear(t, g.Lines())
	if err := w.judge(t.Context(), b.connect(t, g)(), found); err != nil {
		t.Fatal(err)
	}
	g.PowerOff(t)
}

// look asks a service what is there, and takes the writers to it; what is lost or there in part fails the test.
func look(t *testing.T, l *team, found *state, connect func() generated.Port) {
	t.Helper()
	if err := found.read(t.Context(), connect()); err != nil {
		t.Fatal(err)
	}
	there, err := found.judge(l, now)
	if err != nil {
		t.Fatal(err)
	}
	l.settle(there)
}

// restart kills the service three times in a guest whose TPM goes on, while clients write. Each process has its own
// TLS certificate, of the same issuing key and root, and what is measured into the TPM is measured once.
func (b *box) restart(t *testing.T, g *guest.Guest, l *team, found *state, random *rand.Rand) {
	t.Helper()
	first := b.introduce(t, g)
	if first.register == strings.Repeat("0", 2*sha256.Size) || !strings.Contains(first.measured, first.register) {
		t.Errorf("the service tells of the measurements %s, and the TPM of %s", first.measured, first.register)
	}
	leaves := []string{first.leaf}
	for range 3 {
		g.AwaitNext(t, "biosv: ready on ", func() {
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			var group sync.WaitGroup
			connect := b.connect(t, g)
			group.Go(func() { l.write(ctx, t, connect, nil) })
			time.Sleep(after(random))
			g.Do(t, "kill biosv")
			stop() // the next process is there so soon that a client which was about to ask may ask it
			group.Wait()
		})
		look(t, l, found, b.connect(t, g))
		again := b.introduce(t, g)
		if slices.Contains(leaves, again.leaf) {
			t.Error("the TLS certificate is that of an earlier process")
		}
		leaves = append(leaves, again.leaf)
		if first.leaf = again.leaf; first != again {
			t.Errorf("a process that was started again shows\n%+v, and the first showed\n%+v", again, first)
		}
	}
	t.Logf("killed and started again %d times on a TPM that goes on", len(leaves)-1)
}

// identity is what a service shows of itself.
type identity struct {
	leaf, root string // SHA-256 of the ends of its certificate chain
	issuingKey string // SHA-256
	measured   string // the registers it measures into, with what was measured
	register   string // PCR 15, as the kernel reads it in the TPM
}

func (b *box) introduce(t *testing.T, g *guest.Guest) identity {
	t.Helper()
	conn, err := tls.Dial("tcp", g.Address(t, port), b.tls())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	chain := conn.ConnectionState().VerifiedChains[0]
	reply, err := b.connect(t, g)().GetTrustState(t.Context(), generated.Call{}, &generated.GetTrustStateRequest{})
	if err != nil {
		t.Fatal(err)
	}
	i := identity{
		leaf: fmt.Sprintf("%x", sha256.Sum256(chain[0].Raw)), root: fmt.Sprintf("%x", sha256.Sum256(chain[len(chain)-1].Raw)),
		issuingKey: reply.Trust.IssuingKeySha256,
		register:   strings.ToLower(strings.TrimSpace(string(g.Show(t, "/sys/class/tpm/tpm0/pcr-sha256/15")))),
	}
	if reply.Trust.LeafSha256 != i.leaf || *reply.Trust.TpmKind != generated.TpmKindSoftware {
		t.Errorf("the service says that its certificate is %s, and shows %s; its TPM is %s", reply.Trust.LeafSha256, i.leaf, *reply.Trust.TpmKind)
	}
	for _, r := range reply.Trust.Pcr {
		i.measured += fmt.Sprintf("PCR %d %s %q\n", r.PcrIndex, r.Sha256, r.EventName)
	}
	return i
}

// TestAPowerCutDuringSetUpLeavesAServiceThatStarts cuts the power while the service sets an empty folder up.
func TestAPowerCutDuringSetUpLeavesAServiceThatStarts(t *testing.T) {
	t.Parallel()
	random := dice(t, 3)
	for range max(1, kills(t)/5) {
		b := newBox(t)
		g := b.on(t, "")
		g.Await(t, "guest: done: keep")
		instant := after(random) * 3 / 2 // it takes little more than a second
		time.Sleep(instant)
		b.off(t, g)
		g = b.on(t, "")
		b.ready(t, g)
		l := newTeam()
		l.cut(t, g, b.connect(t, g), nil, writers, 0)
		b.off(t, g)
		if err := inspect(t, b.disk, t.TempDir(), l, now); err != nil {
			t.Error(err)
		}
		t.Logf("power cut %s after the service began to set itself up", instant.Round(time.Millisecond))
	}
}

// TestWithoutSyncAPowerCutLosesAcknowledgedWrites shows that these tests notice a loss: a service that does not wait
// for its disk is found out.
func TestWithoutSyncAPowerCutLosesAcknowledgedWrites(t *testing.T) {
	t.Parallel()
	b := newBox(t)
	g := b.on(t, "")
	b.ready(t, g) // it is set up, and all that is on the disk
	g.Do(t, "stop biosv")
	g.AwaitNext(t, "biosv: ready on ", func() { g.Do(t, serve+" --unsafe-no-sync") })
	l := newTeam()
	l.cut(t, g, b.connect(t, g), nil, 5*writers, 0)
	b.off(t, g)
	err := inspect(t, b.disk, t.TempDir(), l, now)
	if !errors.Is(err, errLost) && !errors.Is(err, store.ErrCorrupt) {
		t.Fatalf("of %d operations that were acknowledged and not written to the disk, none is missed: %v", l.acknowledged.Load(), err)
	}
	t.Logf("noticed: %v", err)
}
