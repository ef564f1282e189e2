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
	window    = time.Second
	mostPeers = 256 // rows a window; peers beyond share one
)

// Refusals writes rows for requests that changed nothing. The first of a peer is written at once; what follows from
// the same peer becomes one row with a count for each second, so that a flood cannot fill the disk.
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
	row     Row
	count   uint64
	written time.Time
}

// others is the peer that stands for those beyond mostPeers.
const others = "others"

// NewRefusals makes a Refusals; [Refusals.Close] writes what is left.
func NewRefusals(l *Log, s *store.Store, log *slog.Logger) *Refusals {
	r := &Refusals{log: l, store: s, slog: log, peers: map[string]*pending{}, stop: make(chan struct{}), done: make(chan struct{})}
	go r.run()
	return r
}

// Refuse writes a row, now or with its window. It does not fail: what the disk does not take goes to the log.
func (f *Refusals) Refuse(ctx context.Context, r Row) {
	key := peer(r)
	f.mu.Lock()
	p, known := f.peers[key]
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
	f.peers[key] = &pending{written: time.Now()}
	f.mu.Unlock()
	f.write(context.WithoutCancel(ctx), []Row{r})
}

// peer is what refusals are counted by: who, from which machine, and to which end.
func peer(r Row) string {
	host, _, err := net.SplitHostPort(r.Peer)
	if err != nil {
		host = r.Peer
	}
	if r.Principal == "unidentified" || r.Principal == "" {
		return host
	}
	return host + " " + r.Principal + " " + r.Operation + " " + r.Domain + " " + r.Detail
}

func (f *Refusals) run() {
	defer close(f.done)
	tick := time.NewTicker(window)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			f.flush(time.Now().Add(-window))
		case <-f.stop:
			f.flush(time.Now())
			return
		}
	}
}

// flush writes what is pending of peers whose last row is so old, and forgets those that have been quiet since.
func (f *Refusals) flush(before time.Time) {
	f.mu.Lock()
	var list []Row
	for key, p := range f.peers {
		switch {
		case p.written.After(before):
		case p.count == 0:
			delete(f.peers, key)
		default:
			p.row.Count = p.count
			list = append(list, p.row)
			p.count, p.written = 0, time.Now()
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
