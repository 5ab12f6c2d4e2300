// Package anycall makes calls of every rpc, right ones and wrong ones, in every encoding, to the real server, and checks
// what must hold whatever comes in: docs/errors.md names every code and reason that a refusal had, no refusal was the
// server's fault, and nothing that was refused changed a row.
//
// Requests come from the protos' descriptors (schema_test.go), are put on the wire and spoiled there (wire_test.go,
// spoil_test.go), and are made as several callers (world_test.go). What changed is told by triggers in the test's database
// (audit_test.go). A seed makes a run repeatable but for what the server draws itself, such as ids of groups.
package anycall
