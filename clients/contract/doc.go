// Package contract holds what all clients of Parley must do alike: scenarios that name no language, and the test that plays
// them with devices in Go, TypeScript and Kotlin against one server, each scenario with devices of all languages in one
// session. README.md describes the format of the scenarios and the lines of JSON that the runners speak.
//
// The Go devices are small ones on the generated client, written for this test: they ask the server where the SDKs count for
// themselves, so that where an SDK miscounts the three do not agree.
package contract
