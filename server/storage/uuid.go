package storage

import (
	"encoding/binary"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"
)

// registerUUIDs teaches a connection to write and read uuid.UUID as the 16 bytes it is. pgx knows it as a driver.Valuer
// only: every id went through text, a failed attempt and reflection, which cost more than half of a node's work on a batch.
func registerUUIDs(m *pgtype.Map) {
	one := &pgtype.Type{Name: "uuid", OID: pgtype.UUIDOID, Codec: uuidCodec{}}
	m.RegisterType(one)
	m.RegisterType(&pgtype.Type{Name: "_uuid", OID: pgtype.UUIDArrayOID,
		Codec: uuidArrayCodec{&pgtype.ArrayCodec{ElementType: one}}})
}

// uuidCodec leaves all but uuid.UUID in the binary format to pgx.
type uuidCodec struct{ pgtype.UUIDCodec }

func (c uuidCodec) PlanEncode(m *pgtype.Map, oid uint32, format int16, value any) pgtype.EncodePlan {
	if _, ok := value.(uuid.UUID); ok && format == pgtype.BinaryFormatCode {
		return encodeUUID{}
	}
	return c.UUIDCodec.PlanEncode(m, oid, format, value)
}

func (c uuidCodec) PlanScan(m *pgtype.Map, oid uint32, format int16, target any) pgtype.ScanPlan {
	if _, ok := target.(*uuid.UUID); ok && format == pgtype.BinaryFormatCode {
		return scanUUID{}
	}
	return c.UUIDCodec.PlanScan(m, oid, format, target)
}

type encodeUUID struct{}

func (encodeUUID) Encode(value any, buf []byte) ([]byte, error) {
	id, ok := value.(uuid.UUID)
	if !ok {
		return nil, fmt.Errorf("%T is no uuid.UUID", value)
	}
	return append(buf, id[:]...), nil
}

type scanUUID struct{}

// Scan leaves NULL out, as uuid.UUID's own Scan does.
func (scanUUID) Scan(src []byte, target any) error {
	if src == nil {
		return nil
	}
	id, ok := target.(*uuid.UUID)
	if !ok || len(src) != len(id) {
		return fmt.Errorf("a uuid of %d bytes into %T", len(src), target)
	}
	copy(id[:], src)
	return nil
}

// uuidArrayCodec leaves all but writing []uuid.UUID in the binary format to pgx, which reads it by uuidCodec.
type uuidArrayCodec struct{ *pgtype.ArrayCodec }

func (c uuidArrayCodec) PlanEncode(m *pgtype.Map, oid uint32, format int16, value any) pgtype.EncodePlan {
	if _, ok := value.([]uuid.UUID); ok && format == pgtype.BinaryFormatCode {
		return encodeUUIDs{}
	}
	return c.ArrayCodec.PlanEncode(m, oid, format, value)
}

type encodeUUIDs struct{}

// Encode writes PostgreSQL's binary format of arrays: dimensions, whether there are NULLs, the element's type, then the
// length and lower bound of the one dimension, then each element after its length. nil is NULL.
func (encodeUUIDs) Encode(value any, buf []byte) ([]byte, error) {
	ids, ok := value.([]uuid.UUID)
	if !ok {
		return nil, fmt.Errorf("%T is no []uuid.UUID", value)
	}
	if ids == nil {
		return nil, nil
	}
	add := binary.BigEndian.AppendUint32
	if len(ids) == 0 {
		return add(add(add(buf, 0), 0), pgtype.UUIDOID), nil
	}
	buf = add(add(add(buf, 1), 0), pgtype.UUIDOID)
	buf = add(add(buf, uint32(len(ids))), 1) //nolint:gosec // an array of PostgreSQL is far smaller
	for i := range ids {
		buf = append(add(buf, uint32(len(ids[i]))), ids[i][:]...)
	}
	return buf, nil
}
