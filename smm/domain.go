package smm

import (
	"context"
	"time"

	"biosv/fault"
	"biosv/generated"
	"biosv/store"
)

// Domain is the record of a domain.
type Domain struct {
	Name        string
	Kind        generated.DomainKind
	UUID        string
	Description string `json:",omitempty"`
	Seed        uint32 `json:",omitempty"`
	// VirtualMachine is what a machine of kind Qemu is made with.
	VirtualMachine *generated.VirtualMachine `json:",omitempty"`
	// Attachment is of a machine that was there before.
	Attachment *Attachment `json:",omitempty"`
	CreatedAt  time.Time
}

// Domains gives the records of all domains, the privileged one first, the others by name.
func (b *BIOS) Domains(ctx context.Context) (domains []Domain, err error) {
	err = b.store.View(ctx, func(s *store.Tx) error {
		for _, name := range s.Buckets("domain") {
			d, err := readDomain(s, name)
			if err != nil {
				return err
			}
			if name == PrivilegedDomain {
				domains = append([]Domain{d}, domains...)
			} else {
				domains = append(domains, d)
			}
		}
		return nil
	})
	return domains, err
}

// records are read at every request.
var records store.Memo[Domain]

func readDomain(s *store.Tx, name string) (Domain, error) {
	d, ok, err := records.Get(s.Bucket("domain", name, "bios"), "record")
	if err == nil && !ok {
		err = fault.NotFound(fault.UnknownDomain, "", name, "There is no domain %q; ListDomains names those that are.", name)
	}
	return d, err
}

// AddDomain writes the record of a new domain; the transaction is another domain's, usually the privileged one's.
func (tx *Tx) AddDomain(d Domain) error {
	bucket := tx.store.Bucket("domain", d.Name, "bios")
	if bucket.Get([]byte("record")) != nil {
		return fault.Conflict(fault.AlreadyExists, "There is a domain %q already.", d.Name)
	}
	return store.PutJSON(bucket, "record", d)
}

// RemoveDomain takes a domain out of the store with everything that functions keep of it.
func (tx *Tx) RemoveDomain(name string) error {
	if _, err := readDomain(tx.store, name); err != nil {
		return err
	}
	if err := requireNoIntent(tx.store, name); err != nil {
		return err
	}
	tx.store.DeleteBucket("domain", name)
	return nil
}

// EnsurePrivileged writes the record of the privileged domain where there is none.
func (b *BIOS) EnsurePrivileged(ctx context.Context, uuid string) error {
	return b.store.Update(ctx, func(s *store.Tx) error {
		bucket := s.Bucket("domain", PrivilegedDomain, "bios")
		if bucket.Get([]byte("record")) != nil {
			return nil
		}
		return store.PutJSON(bucket, "record", Domain{Name: PrivilegedDomain, Kind: generated.DomainKindPrivileged, UUID: uuid, CreatedAt: b.Now()})
	})
}
