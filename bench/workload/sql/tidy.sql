-- What autovacuum would do in the middle of a measurement.
VACUUM (ANALYZE) msg;
VACUUM (ANALYZE) user_to_session;
VACUUM (ANALYZE) session
