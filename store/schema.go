package store

import (
	"encoding/binary"
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// migration brings a state from the version before to its own.
type migration func(*bolt.Tx) error

// migrations are all there ever were, in order; their count is the schema version. One is never changed once a
// state was kept with it: what must be otherwise is the next one. The first makes an empty state.
var migrations = []migration{
	func(*bolt.Tx) error { return nil },
}

// SchemaVersion is the version of the states that this program writes.
func SchemaVersion() int { return len(migrations) }

// metaBucket is the store's own; its version stands under versionKey, as four bytes, the greatest first.
const (
	metaBucket = "meta"
	versionKey = "schema"
)

// migrate brings a state up to date, step by step in one transaction, or refuses a newer one.
func migrate(db *bolt.DB, migrations []migration) error {
	version, err := schemaOf(db)
	if err != nil {
		return err
	}
	if err := refuseNewer(version, len(migrations)); err != nil {
		return err
	}
	if version == len(migrations) {
		return nil
	}
	return db.Update(func(tx *bolt.Tx) error {
		for i, m := range migrations[version:] {
			if err := m(tx); err != nil {
				return fmt.Errorf("migrate to schema %d: %w", version+i+1, err)
			}
		}
		b, err := tx.CreateBucketIfNotExists([]byte(metaBucket))
		if err != nil {
			return fmt.Errorf("write the schema version: %w", err)
		}
		return b.Put([]byte(versionKey), binary.BigEndian.AppendUint32(nil, uint32(len(migrations))))
	})
}

func refuseNewer(version, known int) error {
	if version > known {
		return fmt.Errorf("%w: its schema is %d, and this program knows %d", ErrNewer, version, known)
	}
	return nil
}

// schemaOf gives the version of a state: 0 for an empty file, ErrCorrupt for one of another program's.
func schemaOf(db *bolt.DB) (version int, err error) {
	err = db.View(func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte(metaBucket))
		if b == nil {
			if k, _ := tx.Cursor().First(); k != nil {
				return fmt.Errorf("%w: it has no schema version", ErrCorrupt)
			}
			return nil
		}
		raw := b.Get([]byte(versionKey))
		if len(raw) != 4 {
			return fmt.Errorf("%w: it has no schema version", ErrCorrupt)
		}
		version = int(binary.BigEndian.Uint32(raw))
		return nil
	})
	return version, err
}
