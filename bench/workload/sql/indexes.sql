-- What drops each index of msg, and what makes it again: constraints first, since their indexes go with them.
SELECT format('ALTER TABLE msg DROP CONSTRAINT %I', conname), format('ALTER TABLE msg ADD CONSTRAINT %I %s', conname, pg_get_constraintdef(oid))
FROM pg_constraint WHERE conrelid = 'msg'::regclass AND contype IN ('p', 'u')
UNION ALL
SELECT format('DROP INDEX %s', indexrelid::regclass), pg_get_indexdef(indexrelid)
FROM pg_index WHERE indrelid = 'msg'::regclass AND indexrelid NOT IN (SELECT conindid FROM pg_constraint WHERE conrelid = 'msg'::regclass)
