package audit

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"time"

	"biosv/store"
)

// Bounds of what refusals may cost.
const (
	tick      = time.Second
	window    = time.Second
	mostPeers = 256 // rows a window; peers beyond share one
	// The guest of a virtual machine costs nobody a connection, so it asks more often than others.
	guestWindow = time.Minute
	mostKinds   = 8 // rows a window for one who has an identity; kinds beyond share one
)

// Refusals writes rows for requests that changed nothing. The first of a peer is written at once; what follows from
// the same peer becomes one row with a count for each window, so that a flood cannot fill the disk. It also has the rows
// written of what was counted in a [Log].
type Refusals struct {
	log   *Log
	store *store.Store
	slog  *slog.Logger

	mu    sync.Mutex
	peers map[string]*pending
	stop  chan struct{}
	done  chan struct{}
}

// pending is what a peer did since its last row was written: row is the newest, and stands for count.
type pending struct {
	who     string
	window  time.Duration
	row     Row
	count   uint64
	written time.Time
}

// others is the peer that stands for those beyond mostPeers.
const others = "others"

// NewRefusals makes a Refusals; [Refusals.Close] writes what is left.
func NewRefusals(l *Log, s *store.Store, log *slog.Logger) *Refusals {
	r := &Refusals{log: l, store: s, slog: log, peers: map[string]*pending{}, stop: make(chan struct{}), done: make(chan struct{})}
	r.settle() // what the process before counted
	go r.run()
	return r
}

// Refuse writes a row, now or with its window. It does not fail: what the disk does not take goes to the log.
func (f *Refusals) Refuse(ctx context.Context, r Row) {
	who, what := peer(r)
	key := who + what
	f.mu.Lock()
	p, known := f.peers[key]
	if !known && f.kinds(who) >= mostKinds {
		key, r.Detail = who+" "+others, "One of several kinds: "+r.Detail
		p, known = f.peers[key]
	}
	if !known && len(f.peers) >= mostPeers {
		key, r.Peer = others, others
		p, known = f.peers[key]
	}
	if known {
		p.row = r
		p.count++
		f.mu.Unlock()
		return
	}
	p = &pending{who: who, window: window, written: time.Now()}
	if r.Door == guests {
		p.window = guestWindow
	}
	f.peers[key] = p
	f.mu.Unlock()
	f.write(context.WithoutCancel(ctx), []Row{r})
}

// kinds is how many kinds of refusals somebody has. The caller holds mu.
func (f *Refusals) kinds(who string) (n int) {
	for _, p := range f.peers {
		if p.who == who {
			n++
		}
	}
	return n
}

// peer is what refusals are counted by: who, from which machine, and to which end.
func peer(r Row) (who, what string) {
	host, _, err := net.SplitHostPort(r.Peer)
	if err != nil {
		host = r.Peer
	}
	if r.Principal == "unidentified" || r.Principal == "" {
		return host, ""
	}
	return host + " " + r.Principal, " " + r.Operation + " " + r.Domain + " " + r.Detail
}

func (f *Refusals) run() {
	defer close(f.done)
	ticks := time.NewTicker(tick)
	defer ticks.Stop()
	settled := time.Now()
	for {
		select {
		case <-ticks.C:
			f.flush(false)
			if f.log.counted.Load() && time.Since(settled) >= tallyTime {
				f.settle()
				settled = time.Now()
			}
		case <-f.stop:
			f.flush(true)
			f.settle()
			return
		}
	}
}

func (f *Refusals) settle() {
	if err := f.log.Settle(context.Background(), f.store); err != nil {
		f.slog.Error("what was counted could not be written to the audit log", "error", err)
	}
}

// flush writes what is pending of peers whose last row is older than their window, or of all, and forgets those that
// have been quiet since.
func (f *Refusals) flush(all bool) {
	now := time.Now()
	f.mu.Lock()
	var list []Row
	for key, p := range f.peers {
		switch {
		case !all && now.Sub(p.written) < p.window:
		case p.count == 0:
			delete(f.peers, key)
		default:
			p.row.Count = p.count
			list = append(list, p.row)
			p.count, p.written = 0, now
		}
	}
	f.mu.Unlock()
	f.write(context.Background(), list)
}

func (f *Refusals) write(ctx context.Context, list []Row) {
	if len(list) == 0 {
		return
	}
	if err := f.store.Update(ctx, func(tx *store.Tx) error {
		for _, r := range list {
			if _, err := f.log.Append(tx, r); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		for _, r := range list {
			f.slog.Error("a refusal could not be written to the audit log", "principal", r.Principal, "peer", r.Peer, "operation", r.Operation, "domain", r.Domain, "detail", r.Detail, "count", r.Count, "error", err)
		}
	}
}

// Close writes what is pending and ends.
func (f *Refusals) Close() {
	close(f.stop)
	<-f.done
}
