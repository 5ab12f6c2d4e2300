// Package model tests the promises about order, idempotency, delivery, membership and message state from outside: people
// with two devices each do whatever they like, in an order that rapid makes up, against the real server over HTTP, and a
// model in memory says by definition what every call must answer and what every live device must be shown.
//
// The model (files world_*) knows no server: it is entries, memberships and marks, counted out one by one. The driver
// (files machine_*) makes a call, asks the model what had to happen, and compares. Steps run one after another, and after
// each of them every live device is waited for, so nothing depends on speed; races are what cursors_test.go is for.
//
// PARLEY_MODEL_CHECKS and PARLEY_MODEL_STEPS set how many sequences of how many steps run, PARLEY_MODEL_CALLS how many calls
// race; a failure prints the seed that
// repeats it with -rapid.seed.
package model
