package uefi

import (
	"context"
	"io"
	"time"
)

// A guest that asks without a pause is made to wait, not refused: its own requests take longer, and those of other
// guests do not. What it may use is counted in bytes that it sends; a request costs more than its bytes.
const (
	perSecond   = 1 << 20
	atOnce      = 1 << 20
	requestCost = perSecond / 2048
	changeCost  = perSecond / 128 // it is written to disk
)

// pace is a bucket from which costs are taken, and which fills again.
type pace struct {
	now   func() time.Time
	sleep func(context.Context, time.Duration) error
	left  float64
	at    time.Time // when left was right
}

func newPace() *pace { return &pace{now: time.Now, sleep: sleep, left: atOnce, at: time.Now()} }

// spend takes a cost, and waits until it is covered.
func (p *pace) spend(ctx context.Context, cost int64) error {
	now := p.now()
	p.left, p.at = min(p.left+now.Sub(p.at).Seconds()*perSecond, atOnce), now
	if p.left -= float64(cost); p.left >= 0 {
		return nil
	}
	return p.sleep(ctx, time.Duration(-p.left/perSecond*float64(time.Second)))
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// pacedReader lets every byte have its cost, also those that are no frame.
type pacedReader struct {
	ctx    context.Context
	r      io.Reader
	pace   *pace
	before func() // is called before each reading
}

// Read reads.
func (r *pacedReader) Read(b []byte) (int, error) {
	r.before()
	n, err := r.r.Read(b)
	if waited := r.pace.spend(r.ctx, int64(n)); waited != nil {
		return 0, waited
	}
	return n, err
}
