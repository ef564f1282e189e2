package soap

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"biosv/generated"
)

func take(t *testing.T, r *room, peer string, bytes int64) *place {
	t.Helper()
	p, err := r.take(t.Context(), peer, bytes)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// refused asserts that there is no room, in the time that a request waits for it.
func refused(t *testing.T, r *room, peer string, bytes int64) {
	t.Helper()
	start := time.Now()
	p, err := r.take(t.Context(), peer, bytes)
	var f *generated.UnavailableFault
	if !errors.As(err, &f) || p != nil || f.Code != "Overloaded" || f.RetryAfterSeconds == 0 {
		t.Errorf("%s takes %d bytes: %v", peer, bytes, err)
	}
	if waited := time.Since(start); waited != roomTime {
		t.Errorf("it waited %s", waited)
	}
}

func TestRoomIsSharedByPeers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(10, 20, 50)
		a1, a2 := take(t, r, "a", 10), take(t, r, "a", 10)
		refused(t, r, "a", 1) // its share is taken
		b := take(t, r, "b", 10)
		c1 := take(t, r, "c", 10)
		take(t, r, "d", 8)
		refused(t, r, "e", 3) // all is taken but 2
		e := take(t, r, "e", 2)
		refused(t, r, "b", 5) // it has its share, and no room
		c1.leave()
		b2 := take(t, r, "b", 10)
		for _, p := range []*place{a1, a2, b, b2, e} {
			p.leave()
		}
		take(t, r, "a", 20)
		if len(r.shares) != 2 {
			t.Errorf("%d peers are remembered; two have requests", len(r.shares))
		}
	})
}

func TestRoomThatABodyDoesNotNeedIsGivenBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(10, 10, 10)
		p := take(t, r, "a", 10)
		p.keep(4)
		q := take(t, r, "b", 6)
		refused(t, r, "b", 1)
		p.leave()
		q.leave()
		take(t, r, "b", 10)
	})
}

func TestARequestWaitsForRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(10, 10, 10)
		p := take(t, r, "a", 10)
		var waiting sync.WaitGroup
		waiting.Go(func() { take(t, r, "b", 10).leave() })
		time.Sleep(roomTime / 2)
		p.leave()
		waiting.Wait()
		if waited := time.Now(); len(r.shares) != 0 {
			t.Errorf("%d peers are remembered at %s", len(r.shares), waited)
		}
		// Who goes away waits no longer.
		take(t, r, "a", 10)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := r.take(ctx, "b", 1); err == nil {
			t.Error("a request that was given up took room")
		}
	})
}

// However many come at once, there is never more in the room than it holds, and in the end nothing.
func TestRoomIsNeverOverfull(t *testing.T) {
	t.Parallel()
	r := newRoom(10, 20, 50)
	var mu sync.Mutex
	var in, most int64
	var peers sync.WaitGroup
	for i := range 200 {
		peers.Go(func() {
			p, err := r.take(t.Context(), fmt.Sprint(i%7), int64(i%10)+1)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			in += p.bytes
			most = max(most, in)
			mu.Unlock()
			mu.Lock()
			in -= p.bytes
			mu.Unlock()
			p.leave()
		})
	}
	peers.Wait()
	if most > 50 || len(r.shares) > 0 || !r.all.TryAcquire(50) {
		t.Errorf("%d bytes were in the room of 50; %d peers are remembered", most, len(r.shares))
	}
}

// What one operator or guest holds keeps no other out, nor strangers, nor what is large.
func TestEachKindOfPeerHasItsRoom(t *testing.T) {
	t.Parallel()
	d := New(Config{})
	for name, r := range map[string]*room{"strangers": d.strangers, "domains": d.domains, "persons": d.persons, "large": d.large} {
		if r.share < r.most {
			t.Errorf("a peer's share of the room for %s is less than a body may have", name)
		}
		if r != d.large && !r.all.TryAcquire(4*r.share) {
			t.Errorf("four peers fill the room for %s", name)
		}
	}
}
