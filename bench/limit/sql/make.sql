-- A table like msg, apart from it, for bare inserts.
CREATE SCHEMA IF NOT EXISTS parley_bench;
DROP TABLE IF EXISTS parley_bench.msg;
CREATE TABLE parley_bench.msg (LIKE public.msg INCLUDING ALL);
