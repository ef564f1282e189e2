package uefi

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/crc32"

	"biosv/service/uefi/frame"
)

// answer acts upon a request and gives its answer as it is to be sent. A request that comes again, because its answer
// was late or got lost, gets the same answer and is not acted upon again. An error ends the connection.
func (s *Server) answer(ctx context.Context, f *frame.Frame) ([]byte, error) {
	this := identify(f)
	if this == s.last.request {
		return s.last.answer, nil
	}
	request, err := frame.ParseRequest(f.Kind, f.Body)
	badName := errors.Is(err, frame.ErrName)
	switch {
	case err != nil && !badName, f.Phase > frame.OperatingSystem:
		s.vain.refused()
		return refuse(f, frame.NotUnderstood), nil
	case f.Kind == frame.Hello: // it may come from a driver that has started anew, with any number
	case f.Session != s.session:
		if s.strange++; s.strange > repeats {
			s.vain.refused()
		}
		return refuse(f, frame.UnknownSession), nil
	case int32(f.Sequence-s.last.request.sequence) <= 0:
		s.vain.refused()
		return refuse(f, frame.OldSequence), nil
	}
	cost := int64(requestCost)
	if f.Kind == frame.SetVariable {
		cost = changeCost
	}
	if err := s.pace.spend(ctx, cost); err != nil {
		return nil, err
	}
	if err := s.enter(ctx, f.Phase); err != nil {
		// Not remembered: when it comes again, it is tried again.
		return encode(f, failed(f.Kind, s.status(f.Kind, err))), nil
	}
	var a frame.Answer
	if badName {
		a = failed(f.Kind, noName(f.Kind))
	} else {
		a = s.act(ctx, request)
	}
	s.last.request, s.last.answer = this, encode(f, a)
	return s.last.answer, nil
}

// repeats is how often a driver sends a request that does not know yet that another process answers.
const repeats = 4

// identity is what makes two frames the same request.
type identity struct {
	kind              frame.Kind
	phase             frame.Phase
	session, sequence uint32
	body              [sha256.Size]byte
}

func identify(f *frame.Frame) identity {
	return identity{f.Kind, f.Phase, f.Session, f.Sequence, sha256.Sum256(f.Body)}
}

// enter follows the guest into the phase of the operating system. It does not follow it back.
func (s *Server) enter(ctx context.Context, phase frame.Phase) error {
	if phase <= s.phase {
		return nil
	}
	if err := s.services.ExitBootServices(ctx); err != nil {
		return err
	}
	s.phase = phase
	return nil
}

// act calls the service that is asked for.
func (s *Server) act(ctx context.Context, request frame.Request) frame.Answer {
	switch r := request.(type) {
	case *frame.HelloRequest:
		if r.Lowest > frame.Version || r.Highest < frame.Version {
			s.log.Error("the guest's thin virtual BIOS speaks other versions of the protocol", "lowest", r.Lowest, "highest", r.Highest, "spoken here", frame.Version)
			return &frame.HelloAnswer{Status: frame.Unsupported}
		}
		return &frame.HelloAnswer{Version: frame.Version, Session: s.session}
	case *frame.GetVariableRequest:
		return s.getVariable(ctx, r)
	case *frame.CheckVariableRequest:
		return s.checkVariable(ctx, r)
	case *frame.GetNextVariableNameRequest:
		return s.getNextVariableName(ctx, r)
	case *frame.SetVariableRequest:
		err := s.services.SetVariable(ctx, s.phase, Variable{r.Vendor, r.Name}, r.Attributes, r.Data)
		return &frame.StatusAnswer{Status: s.status(r.Kind(), err)}
	case *frame.QueryVariableInfoRequest:
		info, err := s.services.QueryVariableInfo(ctx, s.phase, r.Attributes)
		if err != nil {
			return failed(r.Kind(), s.status(r.Kind(), err))
		}
		return &frame.QueryVariableInfoAnswer{Maximum: info.Maximum, Remaining: info.Remaining, Largest: info.Largest}
	case *frame.ExitBootServicesRequest:
		return &frame.StatusAnswer{} // its phase says it all
	case *frame.ResetSystemRequest:
		err := s.services.ResetSystem(ctx, s.phase, Reset{r.Type, r.Status, r.Data})
		return &frame.StatusAnswer{Status: s.status(r.Kind(), err)}
	}
	return &frame.RefusalAnswer{Reason: frame.NotUnderstood}
}

func (s *Server) getVariable(ctx context.Context, r *frame.GetVariableRequest) *frame.GetVariableAnswer {
	attributes, data, err := s.services.GetVariable(ctx, s.phase, Variable{r.Vendor, r.Name})
	if err == nil && len(data) > frame.DataMost {
		err = fmt.Errorf("the variable %s of %s has %d bytes; an answer has room for %d", r.Name, r.Vendor, len(data), frame.DataMost)
	}
	if err != nil {
		return &frame.GetVariableAnswer{Status: s.status(r.Kind(), err)}
	}
	a := &frame.GetVariableAnswer{Attributes: attributes, Size: uint32(len(data))}
	if len(data) > int(r.Room) {
		a.Status = frame.BufferTooSmall
		return a
	}
	a.Data = data
	return a
}

// checkVariable does what GetVariable does, and leaves the data out.
func (s *Server) checkVariable(ctx context.Context, r *frame.CheckVariableRequest) frame.Answer {
	a := s.getVariable(ctx, (*frame.GetVariableRequest)(r))
	check := &frame.CheckVariableAnswer{Status: a.Status, Attributes: a.Attributes, Size: a.Size}
	if a.Status == frame.Success {
		check.Check = crc32.ChecksumIEEE(a.Data)
	}
	return check
}

func (s *Server) getNextVariableName(ctx context.Context, r *frame.GetNextVariableNameRequest) frame.Answer {
	next, err := s.services.GetNextVariableName(ctx, s.phase, Variable{r.Vendor, r.Name})
	if err != nil {
		return failed(r.Kind(), s.status(r.Kind(), err))
	}
	a := &frame.GetNextVariableNameAnswer{Size: frame.NameSize(next.Name)}
	if a.Size > r.Room {
		a.Status = frame.BufferTooSmall
		return a
	}
	a.Vendor, a.Name = next.Vendor, next.Name
	return a
}

// status is what the guest is told of an error.
func (s *Server) status(kind frame.Kind, err error) frame.Status {
	if err == nil {
		return frame.Success
	}
	if status, ok := errors.AsType[frame.Status](err); ok && status != frame.Success {
		return status
	}
	s.log.Error("a service of the guest's BIOS failed", "service", kind.String(), "error", err)
	return frame.DeviceError
}

// noName is what is said of a name that no variable has: it is not found, and cannot be given.
func noName(kind frame.Kind) frame.Status {
	if kind == frame.GetVariable || kind == frame.CheckVariable {
		return frame.NotFound
	}
	return frame.InvalidParameter
}

// failed is the answer to a request of a kind that has nothing but a status.
func failed(kind frame.Kind, status frame.Status) frame.Answer {
	switch kind {
	case frame.Hello:
		return &frame.HelloAnswer{Status: status}
	case frame.GetVariable:
		return &frame.GetVariableAnswer{Status: status}
	case frame.CheckVariable:
		return &frame.CheckVariableAnswer{Status: status}
	case frame.GetNextVariableName:
		return &frame.GetNextVariableNameAnswer{Status: status}
	case frame.QueryVariableInfo:
		return &frame.QueryVariableInfoAnswer{Status: status}
	}
	return &frame.StatusAnswer{Status: status}
}

func encode(request *frame.Frame, a frame.Answer) []byte {
	f := frame.Frame{Kind: request.Kind.Answer(), Session: request.Session, Sequence: request.Sequence, Body: frame.AppendBody(nil, a)}
	if _, ok := a.(*frame.RefusalAnswer); ok {
		f.Kind = frame.Refusal
	}
	return f.AppendTo(nil)
}

func refuse(request *frame.Frame, reason frame.Reason) []byte {
	return encode(request, &frame.RefusalAnswer{Reason: reason})
}
