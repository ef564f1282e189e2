package audit_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"biosv/security/audit"
	"biosv/store"
)

// refusals are over a store of their own; they are for a bubble of synctest, whose time they live in.
func refusals(t *testing.T, s *store.Store) (*audit.Refusals, *audit.Log, *bytes.Buffer) {
	t.Helper()
	text := new(bytes.Buffer)
	l := audit.New(time.Now)
	return audit.NewRefusals(l, s, slog.New(slog.NewTextHandler(text, nil))), l, text
}

// refused is a refusal of a peer without identity.
func refused(peer string) audit.Row {
	return audit.Row{ID: "1", Principal: "unidentified", Door: "soap", Peer: peer, Domain: "dom0", Operation: "ListDomains", Outcome: "Refused", Detail: "CertificateMissing"}
}

func counts(rows []audit.Row) (list []string) {
	for _, r := range rows {
		list = append(list, fmt.Sprintf("%s ×%d", r.Peer, r.Count))
	}
	return list
}

func TestTheFirstRefusalIsWrittenAtOnceAndWhatFollowsIsFolded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t)
		f, l, _ := refusals(t, s)
		f.Refuse(t.Context(), refused("10.0.0.1:1000"))
		if got := counts(list(t, s, l)); fmt.Sprint(got) != "[10.0.0.1:1000 ×1]" {
			t.Errorf("at once: %v", got)
		}
		for i := range 50 {
			f.Refuse(t.Context(), refused(fmt.Sprintf("10.0.0.1:%d", 2000+i)))
		}
		f.Refuse(t.Context(), refused("10.0.0.2:1000"))
		if got := len(list(t, s, l)); got != 2 {
			t.Errorf("before a second went by there are %d rows", got)
		}
		time.Sleep(2*time.Second + time.Millisecond)
		if got := counts(list(t, s, l)); fmt.Sprint(got) != "[10.0.0.1:1000 ×1 10.0.0.2:1000 ×1 10.0.0.1:2049 ×50]" {
			t.Errorf("after it: %v", got)
		}
		time.Sleep(3 * time.Second)
		f.Refuse(t.Context(), refused("10.0.0.1:3000"))
		if got := list(t, s, l); len(got) != 4 || got[3].Count != 1 {
			t.Errorf("a peer that was quiet: %v", counts(got))
		}
		f.Close()
		if err := verify(t, s, l); err != nil {
			t.Error(err)
		}
	})
}

// One row a peer and second at most, however it times its requests.
func TestAFloodOfOnePeerCostsARowASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t)
		f, l, _ := refusals(t, s)
		const seconds, each = 10, 100
		for range seconds * each {
			f.Refuse(t.Context(), refused("10.0.0.1:1"))
			time.Sleep(time.Second / each)
		}
		f.Close()
		rows := list(t, s, l)
		if len(rows) < seconds/2 || len(rows) > seconds+1 {
			t.Errorf("%d rows for %d seconds", len(rows), seconds)
		}
		total := uint64(0)
		for _, r := range rows {
			total += r.Count
		}
		if total != seconds*each {
			t.Errorf("the rows stand for %d of %d refusals", total, seconds*each)
		}
	})
}

func TestAFloodOfManyPeersIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t)
		f, l, _ := refusals(t, s)
		const peers = 3000
		for i := range peers {
			f.Refuse(t.Context(), refused(fmt.Sprintf("10.%d.%d.1:1", i/256, i%256)))
		}
		f.Close()
		rows := list(t, s, l)
		if len(rows) > 258 {
			t.Errorf("%d rows in one second", len(rows))
		}
		total := uint64(0)
		for _, r := range rows {
			total += r.Count
		}
		if last := rows[len(rows)-1]; total != peers || last.Peer != "others" || last.Count != peers-257 {
			t.Errorf("the rows stand for %d of %d refusals; the last is %s ×%d", total, peers, last.Peer, last.Count)
		}
	})
}

func TestRefusalsOfAnIdentityAreToldApartByWhatTheyAre(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t)
		f, l, _ := refusals(t, s)
		row := refused("10.0.0.1:1")
		row.Principal = "spiffe://biosv.test/person/vera"
		for _, operation := range []string{"CreateDomain", "DestroyDomain", "CreateDomain"} {
			row.Operation = operation
			f.Refuse(t.Context(), row)
		}
		f.Close()
		rows := list(t, s, l)
		if len(rows) != 3 || rows[0].Operation != "CreateDomain" || rows[1].Operation != "DestroyDomain" || rows[2].Operation != "CreateDomain" {
			t.Errorf("%+v", rows)
		}
	})
}

func TestCloseWritesWhatIsPending(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	f, l, _ := refusals(t, s)
	var peers sync.WaitGroup
	for i := range 8 {
		peers.Go(func() {
			for range 25 {
				f.Refuse(t.Context(), refused(fmt.Sprintf("10.0.0.%d:1", i)))
			}
		})
	}
	peers.Wait()
	f.Close()
	total := uint64(0)
	for _, r := range list(t, s, l) {
		total += r.Count
	}
	if total != 200 {
		t.Errorf("the rows stand for %d of 200 refusals", total)
	}
}

func TestARefusalThatTheDiskDoesNotTakeGoesToTheLog(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	f, _, text := refusals(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	f.Refuse(t.Context(), refused("10.0.0.1:1"))
	f.Close()
	if !strings.Contains(text.String(), "peer=10.0.0.1:1") || !strings.Contains(text.String(), "CertificateMissing") {
		t.Errorf("the log says: %s", text)
	}
}
