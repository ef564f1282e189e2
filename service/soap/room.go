package soap

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"biosv/fault"
)

// roomTime is how long a request waits for room.
const roomTime = 10 * time.Second

// room bounds the bodies of one kind of peer that are in memory at once, from before they are read until they are
// answered. Whoever sends many, or sends slowly, comes to the end of the room before the service comes to the end of its
// memory; and as each peer has a share, one cannot keep the others out.
type room struct {
	most  int64 // bytes of one body
	share int64 // bytes of one peer
	all   *semaphore.Weighted

	mu     sync.Mutex
	shares map[string]*share
}

// share is the part of the room that a peer may take; it is remembered while the peer has requests.
type share struct {
	*semaphore.Weighted
	requests int
}

func newRoom(most, each, all int64) *room {
	return &room{most: most, share: each, all: semaphore.NewWeighted(all), shares: map[string]*share{}}
}

// place is room that was taken for one body.
type place struct {
	room  *room
	peer  string
	share *share
	bytes int64
}

// take waits for room, and gives up with an UnavailableFault.
func (r *room) take(ctx context.Context, peer string, bytes int64) (*place, error) {
	p := &place{room: r, peer: peer, share: r.enter(peer), bytes: bytes}
	if p.share.TryAcquire(bytes) { // there is room nearly always, and a timer costs more than the rest of this
		if r.all.TryAcquire(bytes) {
			return p, nil
		}
		p.share.Release(bytes)
	}
	if err := p.wait(ctx); err != nil {
		r.leave(peer)
		return nil, fault.Unavailable(fault.Overloaded, roomTime, "Requests that came before fill the memory that there is for requests: nothing was changed.")
	}
	return p, nil
}

func (p *place) wait(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, roomTime)
	defer cancel()
	err := p.share.Acquire(ctx, p.bytes)
	if err == nil {
		if err = p.room.all.Acquire(ctx, p.bytes); err != nil {
			p.share.Release(p.bytes)
		}
	}
	return err
}

// keep gives back what a body shorter than expected does not need.
func (p *place) keep(bytes int64) {
	p.room.all.Release(p.bytes - bytes)
	p.share.Release(p.bytes - bytes)
	p.bytes = bytes
}

// leave gives all of it back.
func (p *place) leave() {
	p.keep(0)
	p.room.leave(p.peer)
}

func (r *room) enter(peer string) *share {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.shares[peer]
	if s == nil {
		s = &share{Weighted: semaphore.NewWeighted(r.share)}
		r.shares[peer] = s
	}
	s.requests++
	return s
}

func (r *room) leave(peer string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.shares[peer]
	if s.requests--; s.requests == 0 {
		delete(r.shares, peer)
	}
}
