package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"biosv/envelope"
	"biosv/generated"
)

// Exit codes.
const (
	exitFailed      = 1
	exitUsage       = 2
	exitConnection  = 3
	exitAccess      = 4
	exitNotFound    = 5
	exitConflict    = 6
	exitInvalid     = 7
	exitUnavailable = 8
	exitInternal    = 9
	exitInterrupted = 130
)

// exits is the table of exit codes: what each means, and the faults that give it.
var exits = []struct {
	code    int
	meaning string
	faults  []string
}{
	{0, "It was done.", nil},
	{exitFailed, "Something failed on this side, such as a file that cannot be read or written.", nil},
	{exitUsage, "The command line is wrong; nothing was sent.", nil},
	{exitConnection, "There is no answer: the service cannot be reached or is not to be trusted, the time ran out, or what came is no answer of the contract.", nil},
	{exitAccess, "You may not do this, or did not show who you are.", []string{"AccessDeniedFault", "AuthenticationRequiredFault"}},
	{exitNotFound, "What was asked for is not there.", []string{"NotFoundFault"}},
	{exitConflict, "The state does not allow it now, or it is locked for a time.", []string{"ConflictFault", "LockedFault"}},
	{exitInvalid, "The service refused the request, a value, a signature or a size.", []string{"InvalidRequestFault", "InvalidAttributeFault", "IntegrityFault", "UefiFault", "LimitExceededFault"}},
	{exitUnavailable, "It cannot be had now; trying again may help.", []string{"UnavailableFault"}},
	{exitInternal, "The service failed; its log tells more.", []string{"InternalFault"}},
	{exitInterrupted, "It was interrupted.", nil},
}

// UsageError says that the command line is wrong. Nothing was sent.
type UsageError struct{ Err error }

func (e *UsageError) Error() string { return e.Err.Error() }

// Unwrap gives what was wrong.
func (e *UsageError) Unwrap() error { return e.Err }

func usage(format string, args ...any) error { return &UsageError{fmt.Errorf(format, args...)} }

// answerError is a fault that came back, with what would help.
type answerError struct {
	fault generated.Fault
	hint  string
}

func (e *answerError) Error() string { return e.fault.Error() }
func (e *answerError) Unwrap() error { return e.fault }

// connectionError says that no answer came, with what would help.
type connectionError struct {
	err  error
	hint string
}

func (e *connectionError) Error() string {
	if e.hint == "" {
		return e.err.Error()
	}
	return e.err.Error() + "\n" + e.hint
}
func (e *connectionError) Unwrap() error { return e.err }

// interruptedError says that the caller gave up.
type interruptedError struct{ text string }

func (e *interruptedError) Error() string { return e.text }

// explain makes of the error of a request one that says what would help.
func explain(ctx context.Context, s *session, c Connection, op *generated.Operation, err error) error {
	var fault generated.Fault
	var missing *generated.MissingError
	var value *generated.ValueError
	unsure := ""
	if op.Effect == generated.Change {
		unsure = " Whether the service carried out " + op.Name + " is not known: look before you try again."
	}
	switch {
	case errors.As(err, &fault):
		e := &answerError{fault: fault}
		if fault.Info().Name == "AuthenticationRequiredFault" {
			e.hint = "Show a certificate that the service issued, with --cert and --key, or name its data folder with --data."
			if c.Certificate != "" {
				e.hint = "The certificate shown was " + c.Certificate + "; show another with --cert and --key."
			}
		}
		return e
	case errors.As(err, &missing), errors.As(err, &value):
		return &UsageError{err}
	case ctx.Err() != nil:
		return &interruptedError{"interrupted." + unsure}
	case errors.Is(err, context.DeadlineExceeded):
		return &connectionError{fmt.Errorf("no answer from %s within %s; --timeout gives it more", c.URL, s.timeout), strings.TrimSpace(unsure)}
	}
	if post := (*url.Error)(nil); errors.As(err, &post) {
		err = post.Err // it would repeat the address
	}
	return &connectionError{fmt.Errorf("no answer from %s: %w", c.URL, err), connectionHint(c, err)}
}

// connectionHint says what would help where no answer came.
func connectionHint(c Connection, err error) string {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var dns *net.DNSError
	var alert tls.AlertError
	var record tls.RecordHeaderError
	var unexpected *envelope.UnexpectedReply
	var soapFault *envelope.Fault
	switch {
	case errors.As(err, &unknown):
		return "The certificate shown does not end in a root of " + c.Root + ": name the right one with --ca, or something stands between you and the service."
	case errors.As(err, &name):
		return "The certificate shown does not bear the host name of the address: use a name that it bears, or start the service with --name."
	case errors.As(err, &invalid):
		return "The certificate shown is not valid now or not for this use: compare the clocks of both sides."
	case errors.Is(err, syscall.ECONNREFUSED):
		return "Nothing listens there: is the service running (biosv serve)?"
	case errors.As(err, &dns):
		return "The host name is not known: is the address right?"
	case errors.As(err, &alert):
		return "The service ended the TLS handshake: does it accept the client certificate " + c.Certificate + "?"
	case errors.Is(err, http.ErrSchemeMismatch), errors.As(err, &record):
		return "What listens there does not speak TLS: is the address right?"
	case errors.As(err, &unexpected), errors.As(err, &soapFault):
		return "Is the address that of a BIOS.v service? It ends in /bios."
	}
	return ""
}

// exitCode is the code that an error ends the program with.
func exitCode(ctx context.Context, err error) int {
	var wrong *UsageError
	var fault generated.Fault
	var connection *connectionError
	var interrupted *interruptedError
	switch {
	case errors.As(err, &wrong):
		return exitUsage
	case errors.As(err, &fault):
		return faultCode(fault.Info().Name)
	case errors.As(err, &connection):
		return exitConnection
	case errors.As(err, &interrupted), ctx.Err() != nil && errors.Is(err, context.Canceled):
		return exitInterrupted
	}
	return exitFailed
}

func faultCode(name string) int {
	for _, row := range exits {
		if slices.Contains(row.faults, name) {
			return row.code
		}
	}
	return exitFailed
}

// report prints an error and gives the exit code.
func report(ctx context.Context, w io.Writer, c *cobra.Command, err error, asJSON bool) int {
	code := exitCode(ctx, err)
	if asJSON {
		reportJSON(w, err, code)
		return code
	}
	var answer *answerError
	var fault generated.Fault
	switch {
	case errors.As(err, &fault):
		p := &printer{width: terminalWidth(w)}
		p.fault(fault)
		fmt.Fprint(w, p.String())
		if errors.As(err, &answer) && answer.hint != "" {
			fmt.Fprintln(w, answer.hint)
		}
	default:
		fmt.Fprintf(w, "biosv: %s\n", plain(err.Error(), true))
		if code == exitUsage {
			fmt.Fprintf(w, "See %s --help.\n", c.CommandPath())
		}
	}
	return code
}

// reportJSON prints {"XFault": {…}} for a fault, and {"Error": {…}} for anything else.
func reportJSON(w io.Writer, err error, code int) {
	var fault generated.Fault
	if errors.As(err, &fault) {
		if detail, e := MarshalJSON(fault); e == nil {
			writeIndented(w, map[string]json.RawMessage{fault.Info().Name: detail})
			return
		}
	}
	writeIndented(w, map[string]any{"Error": struct {
		ExitCode int
		Message  string
	}{code, plain(err.Error(), true)}})
}

func writeIndented(w io.Writer, v any) {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	_ = e.Encode(v) // to standard error: there is nowhere left to tell
}
