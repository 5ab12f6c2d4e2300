// Package chat is a chat in the terminal, over the generated client: history, live messages, typing, who has read what,
// recalls. It is meant to be used, and to be read by those who write a client of their own.
//
// One goroutine, Chat.Run, owns all state and the screen. Others wait for it with what they got, as functions to run
// (Chat.do): the stream, which reconnects and resumes by itself; the outbox, which sends one message after the other and
// repeats each under the same id until its fate is certain; and short calls such as acks. All of them end before Run
// returns.
//
// Messages come on three ways: from the stream, as answers to own sends (which take their place in the live stream), and
// from pages of history. thread puts them in order: each seq is shown once, in order, and a hole that stays is filled from
// history.
//
// What is kept, and its bounds: the cursors of at most maxCursors sessions, in memory only (the server has the acks, and
// history is read anew at the next start); at most maxOutbox messages that wait to be sent; the seqs of the last maxOwn own
// messages.
package chat
