package store

import (
	"encoding/binary"
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// migration brings a state from the version before to its own.
type migration func(*bolt.Tx) error

// migrations are all there were; their count is the schema version. The first makes an empty state.
var migrations = []migration{
	func(*bolt.Tx) error { return nil },
}

// SchemaVersion is the version of the states that this program writes.
func SchemaVersion() int { return len(migrations) }

var metaBucket, versionKey = []byte("meta"), []byte("schema")

// migrate brings a state up to date in one transaction, or refuses a newer one.
func migrate(db *bolt.DB, migrations []migration) error {
	version, err := schemaOf(db)
	if err != nil {
		return err
	}
	if version > len(migrations) {
		return fmt.Errorf("%w: its schema is %d, and this program knows %d", ErrNewer, version, len(migrations))
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
		b, err := tx.CreateBucketIfNotExists(metaBucket)
		if err != nil {
			return err
		}
		return b.Put(versionKey, binary.BigEndian.AppendUint32(nil, uint32(len(migrations))))
	})
}

func schemaOf(db *bolt.DB) (version int, err error) {
	err = db.View(func(tx *bolt.Tx) error {
		b := tx.Bucket(metaBucket)
		if b == nil {
			return nil
		}
		raw := b.Get(versionKey)
		if len(raw) != 4 {
			return fmt.Errorf("%w: it has no schema version", ErrCorrupt)
		}
		version = int(binary.BigEndian.Uint32(raw))
		return nil
	})
	return version, err
}
