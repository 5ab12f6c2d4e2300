package anycall

import (
	"context"
	"encoding/json"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// audit tells which rows changed, by triggers on all tables. What may change by itself is left out: when a device was last
// seen, positions of devices (written behind; the test of A11 watches them), what is trimmed off the change tables, and what
// telling webhooks writes.
type audit struct {
	conn    *pgx.Conn
	last    int64
	streams map[string]bool // by number: those noted in the commit log, of which each is noted once or more, with a delay
}

// What an earlier stream that was right writes after it ended, such as when its device was last in step, is passed over.
const auditSchema = `
CREATE TABLE anycall_audit (id bigserial PRIMARY KEY, rel text NOT NULL, old_row text NOT NULL, new_row text NOT NULL);
CREATE FUNCTION anycall_note() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    old_row jsonb; new_row jsonb;
BEGIN
    IF TG_OP <> 'INSERT' THEN old_row := to_jsonb(OLD) - 'last_seen_at' - 'synced_at'; END IF;
    IF TG_OP <> 'DELETE' THEN new_row := to_jsonb(NEW) - 'last_seen_at' - 'synced_at'; END IF;
    IF TG_OP = 'DELETE' AND TG_TABLE_NAME IN ('commit_log', 'relation_change') OR old_row IS NOT DISTINCT FROM new_row THEN
        RETURN NULL;
    END IF;
    INSERT INTO anycall_audit (rel, old_row, new_row)
    VALUES (TG_TABLE_NAME, coalesce(old_row::text, ''), coalesce(new_row::text, ''));
    RETURN NULL;
END $$`

func newAudit(t testing.TB, url string) *audit {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	rows, err := conn.Query(t.Context(), `SELECT c.oid::regclass::text FROM pg_class c
		WHERE relkind IN ('r', 'p') AND NOT relispartition AND relnamespace = current_schema::regnamespace
		AND relname NOT IN ('goose_db_version', 'device_cursor',
			'webhook_reader', 'webhook_session', 'webhook_delivery', 'webhook_attempt')`)
	require.NoError(t, err)
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Contains(t, tables, "msg")
	_, err = conn.Exec(t.Context(), auditSchema)
	require.NoError(t, err)
	for _, table := range tables {
		_, err = conn.Exec(t.Context(), `CREATE TRIGGER anycall_note AFTER INSERT OR UPDATE OR DELETE ON `+table+
			` FOR EACH ROW EXECUTE FUNCTION anycall_note()`)
		require.NoError(t, err)
	}
	return &audit{conn: conn, streams: map[string]bool{}}
}

// change is what became of a row; an empty side means that it was not there.
type change struct{ rel, before, after string }

// changes returns what changed since it was last asked. What was done and taken back is no change.
func (a *audit) changes(t testing.TB) []change {
	t.Helper()
	rows, err := a.conn.Query(t.Context(), `SELECT id, rel, old_row, new_row FROM anycall_audit WHERE id > $1 ORDER BY id`, a.last)
	require.NoError(t, err)
	var out []change
	var c change
	_, err = pgx.ForEachRow(rows, []any{&a.last, &c.rel, &c.before, &c.after}, func() error {
		if c.rel == "commit_log" && c.before == "" {
			var row struct {
				Numbers []json.Number `json:"stream_numbers"`
			}
			if err := json.Unmarshal([]byte(c.after), &row); err != nil {
				return err
			}
			for _, number := range row.Numbers {
				a.streams[number.String()] = true
			}
		}
		for i, earlier := range out {
			if earlier.rel == c.rel && earlier.after == c.before && c.before != "" {
				out[i].after = c.after
				return nil
			}
		}
		out = append(out, c)
		return nil
	})
	require.NoError(t, err)
	return slices.DeleteFunc(out, func(c change) bool { return c.before == c.after })
}
