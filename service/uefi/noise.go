package uefi

import (
	"context"
	"time"

	"biosv/service/uefi/frame"
)

// Noise is what a guest said in vain: what is no frame, and frames that no thin virtual BIOS sends. A program of the
// guest's operating system that writes to the serial port makes some, and so does a root who tries what he can do.
type Noise struct {
	frame.Noise
	Refused uint64 // frames
}

func (n Noise) less(m Noise) Noise {
	return Noise{frame.Noise{Pieces: n.Pieces - m.Pieces, Bytes: n.Bytes - m.Bytes}, n.Refused - m.Refused}
}

// noiseTime is how often it is told at most.
const noiseTime = time.Minute

// vain counts noise, and tells of it. Only who serves the connection calls it.
type vain struct {
	tell func(context.Context, frame.Phase, Noise)
	now  func() time.Time

	before Noise // of the connections that ended, and of all refusals
	told   Noise // of all that there was, what was told
	at     time.Time
}

func newVain(tell func(context.Context, frame.Phase, Noise)) *vain {
	return &vain{tell: tell, now: time.Now}
}

// refused counts a frame that was refused.
func (v *vain) refused() { v.before.Refused++ }

// hear tells of what is new, if it is time: present is that of the present connection.
func (v *vain) hear(ctx context.Context, phase frame.Phase, present frame.Noise) {
	if v.at.IsZero() || v.now().Sub(v.at) >= noiseTime {
		v.report(ctx, phase, present)
	}
}

// end takes over what a connection had, and tells the rest.
func (v *vain) end(ctx context.Context, phase frame.Phase, present frame.Noise) {
	v.report(ctx, phase, present)
	v.before.Pieces += present.Pieces
	v.before.Bytes += present.Bytes
}

func (v *vain) report(ctx context.Context, phase frame.Phase, present frame.Noise) {
	all := v.before
	all.Pieces += present.Pieces
	all.Bytes += present.Bytes
	if all == v.told || v.tell == nil {
		return
	}
	v.tell(ctx, phase, all.less(v.told))
	v.told, v.at = all, v.now()
}
