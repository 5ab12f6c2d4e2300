// Package rate bounds how often something may be done: calls of an address or a device, messages of a user or into a
// session. Each rule is a token bucket (Limit) for each key, such as a user.
//
// # One node
//
// A bucket is kept as the moment at which it is full again (the generic cell rate algorithm of ITU-T I.371). Taking moves
// that moment by the cost of a token; what would move it further away than the whole bucket is refused, with the exact time
// to wait. A node keeps the most recently used buckets, maxBuckets at most; one that was forgotten starts full.
//
// # Several nodes
//
// What was taken is told to a Board that all nodes share (Redis), and what all took together is learnt from it. Asking the
// board for each token would cost more than sending a message, so:
//
//   - below a 32nd of the bucket untold, nothing is told: a key far below its limit costs the board nothing, ever;
//   - past that it is told behind the call, many keys in one round trip (Run), and past a 16th before the token is given;
//   - where more than half of the bucket is used, or where it holds few tokens, the board is asked before a token is given,
//     in steps of a thousandth of the bucket: near the limit the count is exact.
//
// So nodes that are all in use together give what one bucket gives; one that has not heard of a key for long can give a
// 16th of the bucket beyond that, which is then paid back, since what was taken is told. The board never says that more
// was taken than was: what a node tells late it tells less what has flowed back meanwhile, and what it told without an answer
// it does not tell again, though the others may then give as much too many. A key below its limit is never refused.
//
// While the board does not answer each node gives what its own bucket holds: never without a bound, at most the limit times
// the number of nodes.
package rate
