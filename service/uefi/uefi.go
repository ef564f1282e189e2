// Package uefi is the door for a guest's firmware and operating system: it answers the thin virtual BIOS in the guest
// (package vbios) over the guest's own socket, on which nobody else speaks, in the protocol that docs/vbios.md
// specifies. A request becomes a call of [Services], in the words of UEFI 2.10, chapter 8.
//
// Begin with [New]. One Server stands for one boot of one guest, which is one process of the machine monitor: it has a
// phase, which only goes from boot services to operating system, and it outlives the connections on which the guest is
// heard. What a guest says is worth no more than the guest: the door believes nothing of it but the phase, and that
// only in the direction that takes rights away.
package uefi

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/google/uuid"

	"biosv/service/uefi/frame"
)

// Variable names a variable.
type Variable struct {
	Vendor uuid.UUID
	Name   string
}

// Services answer a guest. Their errors are a [frame.Status] where UEFI has one; any other is logged, and becomes
// EFI_DEVICE_ERROR. Those that change something return when the change is kept.
type Services interface {
	// GetVariable gives what the phase may see (UEFI 2.10, 8.2.1).
	GetVariable(ctx context.Context, phase frame.Phase, v Variable) (attributes uint32, data []byte, err error)
	// GetNextVariableName gives the variable behind one, or the first if that has no name (8.2.2).
	GetNextVariableName(ctx context.Context, phase frame.Phase, v Variable) (Variable, error)
	// SetVariable makes, changes, extends and deletes (8.2.3).
	SetVariable(ctx context.Context, phase frame.Phase, v Variable, attributes uint32, data []byte) error
	// QueryVariableInfo tells how much room there is for variables of some attributes (8.2.4).
	QueryVariableInfo(ctx context.Context, phase frame.Phase, attributes uint32) (Info, error)
	// ExitBootServices is told that the guest is in the phase of its operating system, before anything is answered in it.
	ExitBootServices(ctx context.Context) error
	// ResetSystem is told that the guest is about to be reset by its firmware (8.5.1).
	ResetSystem(ctx context.Context, phase frame.Phase, r Reset) error
}

// Info is how much room there is, in bytes.
type Info struct{ Maximum, Remaining, Largest uint64 }

// Reset is a reset that the guest asked its firmware for.
type Reset struct {
	Type   uint32 // EFI_RESET_TYPE
	Status frame.Status
	Data   []byte
}

// Config is what a [Server] is made of.
type Config struct {
	Services Services
	Phase    frame.Phase // that the guest is in
	Log      *slog.Logger
	// Noise is told what the guest said in vain since it was last told, once a minute at most and when a connection
	// ends. Nobody is told where it is nil.
	Noise func(ctx context.Context, phase frame.Phase, n Noise)
}

// Server answers one guest. Its methods can be called at once.
type Server struct {
	services Services
	log      *slog.Logger
	session  uint32
	pace     *pace
	vain     *vain

	mu      sync.Mutex // held while a connection is served
	phase   frame.Phase
	strange int      // frames of another session, on this connection
	last    struct { // that was acted upon
		request identity
		answer  []byte // as it was sent
	}
}

// New makes a Server.
func New(c Config) *Server {
	return &Server{services: c.Services, phase: c.Phase, log: c.Log, session: newSession(), pace: newPace(), vain: newVain(c.Noise)}
}

// newSession draws what tells a Server from those before it, which may have acted upon requests that this one does not
// know of.
func newSession() uint32 {
	for {
		var b [4]byte
		rand.Read(b[:]) // it never fails
		if s := binary.LittleEndian.Uint32(b[:]); s != 0 {
			return s
		}
	}
}

// Serve answers on a connection until it ends, which is no error, or ctx does. The connection is closed then. One
// connection is served at a time; the next one waits.
func (s *Server) Serve(ctx context.Context, conn net.Conn) error {
	defer conn.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	s.strange = 0
	r := &pacedReader{ctx: ctx, r: conn, pace: s.pace}
	d := frame.NewDecoder(r)
	r.before = func() { s.vain.hear(ctx, s.phase, d.Noise()) }
	defer func() { s.vain.end(context.WithoutCancel(ctx), s.phase, d.Noise()) }()
	for {
		f, err := d.Next()
		if err != nil {
			return ended(ctx, err)
		}
		answer, err := s.answer(ctx, f)
		if err != nil {
			return ended(ctx, err)
		}
		if _, err := conn.Write(answer); err != nil {
			return ended(ctx, err)
		}
	}
}

// Listen serves the connections of a listener, one after the other, until ctx ends or the listener is closed, and closes
// it. Where no connection can be accepted, as when the process has no more files to open, it tries again: a guest that
// is not answered now is to be answered later.
func (s *Server) Listen(ctx context.Context, l net.Listener) error {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	defer l.Close()
	for pause := leastPause; ; {
		conn, err := l.Accept()
		if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			if err == nil {
				conn.Close()
			}
			return ended(ctx, err)
		}
		if err != nil {
			s.log.Warn("a guest's connection is not accepted; it is tried again", "error", err, "after", pause)
			if err := sleep(ctx, pause); err != nil {
				return err
			}
			pause = min(2*pause, mostPause)
			continue
		}
		pause = leastPause
		if err := s.Serve(ctx, conn); err != nil && ctx.Err() == nil {
			s.log.Warn("a guest's connection ended", "error", err)
		}
	}
}

// How long Listen pauses after an error: twice as long after each further one.
const (
	leastPause = 5 * time.Millisecond
	mostPause  = time.Second
)

func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
