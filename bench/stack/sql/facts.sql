-- What a figure depends on; and which process answers, if it may be one of this machine.
SELECT current_setting('server_version'), current_setting('fsync'), current_setting('synchronous_commit'),
    current_setting('shared_buffers'), pg_backend_pid(), inet_client_addr() IS NULL OR inet_client_addr() = inet_server_addr()
