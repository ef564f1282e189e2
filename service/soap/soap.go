// Package soap is the SOAP door: it turns SOAP 1.1 and 1.2 over HTTP (WSDL 1.1 document/literal wrapped, WS-I
// Basic Profile 1.1) into calls of a port, and knows no operation by name. It also serves the contract, at ?wsdl
// and ?xsd=NAME.
//
// It answers in the version and the media type that it was asked in. The operation is the body's element;
// SOAPAction is checked against it. What is not what the schema allows never leaves the door inwards: the fault
// names the element, the rule and the line. What never leaves it outwards is anything but a fault of the contract.
package soap

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"biosv/envelope"
	"biosv/envelope/xmltext"
	"biosv/fault"
	"biosv/generated"
	"biosv/security"
	"biosv/service/listen"
	"biosv/service/route"
	"biosv/wsdl"
)

// Bounds of a request's body. A peer without a valid identity asks little; only an admin restores a state.
const (
	MostBytesUnidentified = 64 << 10
	MostBytes             = 1 << 20
	MostBytesAdmin        = 64 << 20
)

const requestTime = 60 * time.Second

// Config is what a [Door] is made of.
type Config struct {
	Next          generated.Handler // the gate
	Authenticator *security.Authenticator
	Privileged    string // name of the privileged domain
	// Role gives the role that an operator has now; it decides how large a body may be.
	Role func(ctx context.Context, operator string) (security.Role, error)
	// PublicURL is the address that the contract bears; empty means the one that the client used.
	PublicURL string
	Log       *slog.Logger
}

// Door is the SOAP door, an http.Handler.
type Door struct {
	Config
	strangers, domains, persons, large *room
}

// New makes the door. All bodies that it lets in at once are 84 MiB, and what is decoded from them is not much more: a
// service that is given 256 MiB lives.
func New(c Config) *Door {
	return &Door{
		Config:    c,
		strangers: newRoom(MostBytesUnidentified, 4*MostBytesUnidentified, 4<<20),
		domains:   newRoom(MostBytes, 2*MostBytes, 8<<20),
		persons:   newRoom(MostBytes, 2*MostBytes, 8<<20),
		large:     newRoom(MostBytesAdmin, MostBytesAdmin, MostBytesAdmin),
	}
}

// connection is what is remembered of an open connection.
type connection struct {
	mu      sync.Mutex
	session security.Session
	leaf    string
}

type connectionKey struct{}

// ConnContext is for http.Server: it gives each connection its memory.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	remembered := &connection{}
	if t, ok := c.(*tls.Conn); ok {
		if below, ok := t.NetConn().(*listen.Conn); ok {
			remembered.leaf = below.LeafSHA256()
		}
	}
	return context.WithValue(ctx, connectionKey{}, remembered)
}

// ServeHTTP answers a request.
func (d *Door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodPost:
		d.post(w, r)
	case http.MethodGet, http.MethodHead:
		d.get(w, r)
	default:
		w.Header().Set("Allow", "POST, GET, HEAD")
		http.Error(w, "Use POST for SOAP, and GET with ?wsdl for the contract.", http.StatusMethodNotAllowed)
	}
}

// get serves the contract.
func (d *Door) get(w http.ResponseWriter, r *http.Request) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err == nil {
		_, err = route.Resolve(security.Principal{}, d.Privileged, r.URL.Path, "")
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	address := d.PublicURL
	if address == "" {
		address = "https://" + r.Host + route.Base
	}
	address += strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, route.Base), "/")
	document, err := wsdl.At(address)
	if err != nil {
		d.Log.Error("the contract cannot be served", "error", err)
		http.Error(w, "The contract cannot be served.", http.StatusInternalServerError)
		return
	}
	var body []byte
	switch {
	case query.Has("wsdl"), query.Has("WSDL"):
		body = document.WSDL
	case query.Get("xsd") == wsdl.SchemaName:
		body = document.Schema
	case query.Has("xsd"):
		http.Error(w, "There is no such schema; there is ?xsd="+wsdl.SchemaName+".", http.StatusNotFound)
		return
	default:
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = fmt.Fprintf(w, "This is BIOS.v. It speaks SOAP 1.1 and 1.2 here, by POST.\nIts contract: %s?wsdl\n", address)
		return
	}
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body)
}

// exchange is one request on its way through the door.
type exchange struct {
	door       *Door
	request    *http.Request
	call       generated.Call
	version    envelope.Version
	action     string
	addressing envelope.MessageAddressing
	places     []*place // that its body takes
}

func (d *Door) post(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), requestTime)
	defer cancel()
	x := &exchange{door: d, request: r, version: envelope.SOAP11}
	x.call = generated.Call{ID: uuid.NewString(), Door: security.DoorSOAP, Channel: generated.Channel{Peer: r.RemoteAddr}}
	defer func() {
		for _, p := range x.places {
			p.leave()
		}
	}()
	out := xmltext.NewWriter()
	defer out.Release()
	status := http.StatusOK
	reply, err := x.answer(ctx)
	if err == nil {
		envelope.Begin(out, x.version, x.addressing.Answer(reply.Action))
		generated.Encode(out, reply.message)
		envelope.End(out)
		if err = out.Err(); err != nil {
			err = fmt.Errorf("%T cannot be written: %w", reply.message, err)
		}
	}
	if err != nil {
		status = x.fault(out, err)
	}
	if e := out.Err(); e != nil {
		d.Log.Error("a fault cannot be written", "id", x.call.ID, "error", e)
		status = x.fault(out, fault.Internal(x.call.ID))
	}
	d.log(ctx, x, status, err)
	header := w.Header()
	header.Set("Content-Type", x.version.MediaType()+"; charset=utf-8")
	header.Set("Content-Length", strconv.Itoa(len(out.Bytes())))
	header.Set("X-Request-Id", x.call.ID)
	w.WriteHeader(status)
	_, _ = w.Write(out.Bytes()) // a peer that went away is told nothing
}

type reply struct {
	Action  string
	message generated.Reply
}

// answer takes a request through the door, inwards and outwards.
func (x *exchange) answer(ctx context.Context) (reply, error) {
	if err := x.mediaType(); err != nil {
		return reply{}, err
	}
	x.identify()
	body, err := x.body(ctx)
	if err != nil {
		return reply{}, err
	}
	message, err := x.decode(body)
	clear(body) // it may hold a password, and nothing that was read points into it
	if err != nil {
		return reply{}, err
	}
	if x.call.Domain, err = route.Resolve(x.call.Principal, x.door.Privileged, x.request.URL.Path, x.addressing.To); err != nil {
		return reply{}, err
	}
	answer, err := x.door.Next.Handle(ctx, x.call, message)
	if err != nil {
		return reply{}, err
	}
	return reply{message.Operation().Action + "Response", answer}, nil
}

// mediaType finds the version that the HTTP headers speak of.
func (x *exchange) mediaType() error {
	header := func(name string) string { return strings.Join(x.request.Header.Values(name), ", ") }
	media, parameters, err := mime.ParseMediaType(header("Content-Type"))
	switch {
	case err == nil && media == envelope.SOAP11.MediaType():
		x.version = envelope.SOAP11
	case err == nil && media == envelope.SOAP12.MediaType():
		x.version = envelope.SOAP12
	default:
		return &httpError{http.StatusUnsupportedMediaType, fmt.Sprintf("The media type %q is not supported: use text/xml for SOAP 1.1 or application/soap+xml for SOAP 1.2.", xmltext.Clip(header("Content-Type")))}
	}
	if charset := parameters["charset"]; charset != "" && !strings.EqualFold(charset, "utf-8") && !strings.EqualFold(charset, "us-ascii") {
		return &httpError{http.StatusUnsupportedMediaType, fmt.Sprintf("The character set %q is not supported: use UTF-8.", xmltext.Clip(charset))}
	}
	if coding := header("Content-Encoding"); coding != "" && coding != "identity" {
		return &httpError{http.StatusUnsupportedMediaType, fmt.Sprintf("The content coding %q is not supported.", xmltext.Clip(coding))}
	}
	x.action = envelope.Action(x.version, header("SOAPAction"), parameters["action"])
	return nil
}

// identify finds out who asks, anew at every request.
func (x *exchange) identify() {
	remembered, ok := x.request.Context().Value(connectionKey{}).(*connection)
	if !ok {
		remembered = &connection{}
	}
	remembered.mu.Lock()
	defer remembered.mu.Unlock()
	x.call.Channel.LeafSHA256 = remembered.leaf
	if x.request.TLS != nil {
		x.call.Principal = x.door.Authenticator.Authenticate(&remembered.session, x.request.TLS.PeerCertificates)
	} else {
		x.call.Principal = x.door.Authenticator.Authenticate(&remembered.session, nil)
	}
}

// body reads the body, into room that is kept until the request is answered.
func (x *exchange) body(ctx context.Context) ([]byte, error) {
	room, peer := x.room()
	n := x.request.ContentLength
	if n > room.most {
		if admin, err := x.isAdmin(ctx); err != nil {
			return nil, err
		} else if admin {
			room = x.door.large
		}
		if n > room.most {
			return nil, tooLarge(room.most)
		}
	}
	if n >= 0 {
		if err := x.take(ctx, room, peer, n); err != nil {
			return nil, err
		}
		body := make([]byte, n)
		_, err := io.ReadFull(x.request.Body, body)
		return body, notWhole(err)
	}
	body, err := x.unannounced(ctx, room, peer, x.request.Body)
	if int64(len(body)) <= room.most || err != nil {
		return body, err
	}
	if admin, err := x.isAdmin(ctx); err != nil {
		return nil, err
	} else if admin {
		room = x.door.large
		body, err = x.unannounced(ctx, room, peer, io.MultiReader(bytes.NewReader(body), x.request.Body))
		if err != nil {
			return nil, err
		}
	}
	if int64(len(body)) > room.most {
		return nil, tooLarge(room.most)
	}
	return body, nil
}

// unannounced reads a body of unknown length, and not more of it than shows that it is too long.
func (x *exchange) unannounced(ctx context.Context, room *room, peer string, from io.Reader) ([]byte, error) {
	if err := x.take(ctx, room, peer, room.most); err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(from, room.most+1))
	x.places[len(x.places)-1].keep(min(int64(len(body)), room.most))
	return body, notWhole(err)
}

func (x *exchange) take(ctx context.Context, room *room, peer string, bytes int64) error {
	p, err := room.take(ctx, peer, bytes)
	if err == nil {
		x.places = append(x.places, p)
	}
	return err
}

// room is where the body of who asks has room, and whose share it is.
func (x *exchange) room() (*room, string) {
	switch who := x.call.Principal; who.Kind() {
	case security.Person:
		return x.door.persons, who.Name()
	case security.Domain:
		return x.door.domains, who.Name()
	}
	host, _, err := net.SplitHostPort(x.request.RemoteAddr)
	if err != nil {
		host = x.request.RemoteAddr
	}
	return x.door.strangers, host
}

func (x *exchange) isAdmin(ctx context.Context) (bool, error) {
	if x.call.Principal.Kind() != security.Person {
		return false, nil
	}
	role, err := x.door.Role(ctx, x.call.Principal.Name())
	return role == security.Admin, err
}

func notWhole(err error) error {
	if err == nil {
		return nil
	}
	return fault.InvalidRequest(fault.MalformedXML, "", "", "The request's body did not come whole: %v.", err)
}

func tooLarge(most int64) error {
	return fault.LimitExceeded(fault.TooLarge, "Bytes", uint64(most), "The request's body is larger than %d bytes.", most)
}

// decode reads the envelope and the message in it.
func (x *exchange) decode(body []byte) (generated.Request, error) {
	limits := xmltext.DefaultLimits
	limits.Bytes = MostBytesAdmin // it was bounded as it was read
	r := xmltext.NewReader(body, limits)
	defer r.Release()
	e, err := envelope.Read(r)
	if err == nil || e.Version != envelope.SOAP11 {
		if e.Version != x.version && err == nil {
			err = &envelope.Fault{Code: envelope.Sender, Reason: fmt.Sprintf("The envelope is of SOAP %s, and the media type %s is of SOAP %s.", e.Version, x.version.MediaType(), x.version)}
		}
		x.version = e.Version
	}
	if err != nil {
		return nil, err
	}
	if x.addressing, err = e.CheckHeaders(); err != nil {
		return nil, err
	}
	message, err := generated.DecodeRequest(r)
	if err != nil {
		return nil, err
	}
	if err := e.Finish(r); err != nil {
		return nil, err
	}
	return message, x.checkAction(message.Operation())
}

// checkAction compares what HTTP and WS-Addressing name with what the body asks for.
func (x *exchange) checkAction(op *generated.Operation) error {
	for _, named := range [...]struct{ where, action string }{{"SOAPAction", x.action}, {"WS-Addressing Action", x.addressing.Action}} {
		if named.action != "" && named.action != op.Action {
			return envelope.InvalidAddressing("ActionMismatch", "The %s is %q, and the body asks for %s, whose action is %q.", named.where, xmltext.Clip(named.action), op.Name, op.Action)
		}
	}
	return nil
}

// httpError is what HTTP itself has a status for.
type httpError struct {
	status int
	reason string
}

func (e *httpError) Error() string { return e.reason }

// fault writes the envelope of an error and gives its HTTP status.
func (x *exchange) fault(w *xmltext.Writer, err error) int {
	w.Reset()
	w.Replace() // it may quote anything
	var plain *httpError
	var broken *envelope.Fault
	switch {
	case errors.As(err, &plain):
		envelope.WriteFault(w, x.version, &envelope.Fault{Code: envelope.Sender, Reason: plain.reason}, nil)
		return plain.status
	case errors.As(err, &broken):
		envelope.WriteFault(w, x.version, broken, x.addressing.Answer(envelope.Addressing+"/soap/fault"))
		return broken.Code.HTTPStatus(x.version)
	}
	f := fault.Of(err, x.call.ID)
	var said generated.Fault // what is a fault already was logged where it became one
	if _, internal := f.(*generated.InternalFault); internal && !errors.As(err, &said) {
		x.door.Log.Error("request failed", "id", x.call.ID, "domain", x.call.Domain, "error", err)
	}
	code := envelope.Receiver
	if f.Info().Sender {
		code = envelope.Sender
	}
	envelope.WriteFault(w, x.version, &envelope.Fault{
		Code: code, Subcodes: []xmltext.Name{{Space: generated.Namespace, Local: f.Info().Name}}, Reason: f.Error(),
		Detail: func(w *xmltext.Writer) { generated.Encode(w, f) },
	}, x.addressing.Answer(generated.Namespace+"/"+f.Info().Name))
	return code.HTTPStatus(x.version)
}

func (d *Door) log(ctx context.Context, x *exchange, status int, err error) {
	if err == nil && !d.Log.Enabled(ctx, slog.LevelDebug) {
		return
	}
	level := slog.LevelDebug
	attributes := []slog.Attr{
		slog.String("id", x.call.ID), slog.String("peer", x.call.Channel.Peer), slog.String("principal", x.call.Principal.String()),
		slog.String("domain", x.call.Domain), slog.Int("status", status),
	}
	if err != nil {
		level = slog.LevelInfo
		attributes = append(attributes, slog.String("error", err.Error()))
	}
	d.Log.LogAttrs(ctx, level, "soap", attributes...)
}
