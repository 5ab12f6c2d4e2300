import { Code } from "@connectrpc/connect";
import { afterEach, expect, test, vi } from "vitest";
import { ErrorReason } from "../gen/parley/v1/error_reason_pb.js";
import type { ParleyClient } from "../src/index.js";
import { FakeParley, refuse } from "./fake.js";
import { clientOf, Recorder, until, waitFor } from "./util.js";

const G = "11111111-1111-4111-8111-111111111111";
const H = "22222222-2222-4222-8222-222222222222";
const running: ParleyClient[] = [];
let ends = new AbortController();

async function start(fake: FakeParley, user = "alice", device = "a1", options = {}): Promise<ParleyClient> {
  const client = clientOf(fake, user, device, options);
  running.push(client);
  client.start();
  await until(client.connection, (s) => s.state === "live");
  return client;
}

afterEach(async () => {
  vi.useRealTimers();
  ends.abort();
  ends = new AbortController();
  await Promise.all(running.splice(0).map((c) => c.stop()));
});

test("what is refused for good is marked as failed and holds nobody up", async () => {
  const fake = new FakeParley();
  fake.group(G, "alice", "bob");
  const alice = await start(fake);
  const s = alice.session(G);
  fake.fates = [refuse(Code.PermissionDenied, ErrorReason.MUTED)];
  const [bad, good] = [s.send("bad"), s.send("good")];
  await expect(bad.sent).rejects.toMatchObject({ reason: "MUTED", retryable: false });
  expect((await good.sent).seq).toBe(1);
  const list = await until(s.messages, (l) => l[0]?.seq === 1);
  expect(list.map((m) => [m.seq, m.status, m.failure?.reason])).toEqual([[1, "sent", undefined], [0, "failed", "MUTED"]]);
  expect(s.retry(bad.message.messageId)).toBe(true);
  await until(s.messages, (l) => l[1]?.seq === 2);
  expect(fake.sessions.get(G)?.log[1]?.messageId).toBe(bad.message.messageId);
  fake.fates = [refuse(Code.PermissionDenied, ErrorReason.MUTED)];
  const again = s.send("bad again");
  await again.sent.catch(() => {});
  expect(s.discard(again.message.messageId)).toBe(true);
  expect(s.messages.value.length).toBe(2);
});

test("one bad message in a shared request does not spoil the others", async () => {
  const fake = new FakeParley();
  fake.group(G, "alice", "bob");
  fake.group(H, "alice", "bob");
  const alice = await start(fake);
  fake.fates = [refuse(Code.PermissionDenied, ErrorReason.SESSION_UNAVAILABLE), "ok"];
  const [g, h] = [alice.session(G).send("g").sent, alice.session(H).send("h").sent];
  await expect(g).rejects.toMatchObject({ reason: "SESSION_UNAVAILABLE" });
  expect((await h).seq).toBe(1);
});

test("within a session one message goes after the other, though many wait and some must be repeated", async () => {
  const fake = new FakeParley();
  fake.group(G, "alice", "bob");
  fake.group(H, "alice", "bob");
  const alice = clientOf(fake, "alice", "a1");
  running.push(alice);
  const bodies = Array.from({ length: 12 }, (_, i) => `m${i}`);
  const sent = bodies.flatMap((body) => [G, H].map((id) => alice.session(id).send(body).sent)); // entered while offline
  fake.fates = ["away", "ok", "ok", "lost", "ok", "away", "away", "lost"];
  alice.start();
  await Promise.all(sent);
  for (const id of [G, H]) {
    const log = fake.sessions.get(id)?.log ?? [];
    expect(log.map((m) => (m.content?.kind.value as { body: string }).body)).toEqual(bodies);
  }
});

test("an entry that overtakes the answer to an own message waits for it", async () => {
  const fake = new FakeParley();
  fake.group(G, "alice", "bob");
  const alice = await start(fake);
  const rec = new Recorder(alice, ends.signal);
  let answer = (): void => {};
  fake.answerDelay = () => new Promise((resolve) => (answer = resolve));
  const s = alice.session(G);
  const { sent } = s.send("mine");
  await waitFor(() => fake.sessions.get(G)?.log.length === 1);
  fake.post(G, "bob", "b1", "theirs");
  await new Promise((resolve) => setTimeout(resolve, 30));
  expect(rec.at(G)).toBe(0);
  answer();
  await sent;
  await waitFor(() => rec.at(G) === 2);
  expect(rec.bodies.get(G)).toEqual(["mine", "theirs"]);
  expect(rec.problems).toEqual([]);
});

test("a hole that no answer explains is fetched", async () => {
  const fake = new FakeParley();
  fake.group(G, "alice", "bob");
  const alice = await start(fake);
  const rec = new Recorder(alice, ends.signal);
  fake.post(G, "bob", "b1", "one");
  await waitFor(() => rec.at(G) === 1);
  fake.post(G, "alice", "a1", "sent by a page that is gone"); // the stream leaves it out for this device
  fake.post(G, "bob", "b1", "three");
  await waitFor(() => rec.at(G) === 3);
  expect(rec.problems).toEqual([]);
});

test("acks are coalesced, and only what is new is told", async () => {
  const fake = new FakeParley();
  fake.group(G, "alice", "bob");
  fake.group(H, "alice", "bob");
  const alice = await start(fake);
  const rec = new Recorder(alice, ends.signal);
  // The time in which they gather stands still, however long the messages take.
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  const come = async (all: () => boolean): Promise<void> => {
    while (!all()) await new Promise((resolve) => setImmediate(resolve));
  };
  for (let i = 0; i < 30; i++) fake.post(i % 2 ? G : H, "bob", "b1", `m${i}`);
  await come(() => rec.at(G) === 15 && rec.at(H) === 15);
  expect(fake.acks).toEqual([]);
  await vi.advanceTimersByTimeAsync(1000);
  await come(() => fake.acks.length === 1);
  expect(new Map(fake.acks[0])).toEqual(new Map([[G, 15], [H, 15]]));
  fake.post(G, "bob", "b1", "more");
  await come(() => rec.at(G) === 16);
  await vi.advanceTimersByTimeAsync(1000);
  await come(() => fake.acks.length === 2);
  expect(fake.acks[1]).toEqual([[G, 16]]);
});

test("stop tells the server what was seen", async () => {
  const fake = new FakeParley();
  fake.group(G, "alice", "bob");
  const alice = await start(fake);
  fake.post(G, "bob", "b1", "one");
  await until(alice.session(G).messages, (l) => l.length === 1);
  await alice.stop();
  expect(fake.acks).toEqual([[[G, 1]]]);
});

test("a limited backlog is told as skipped, and loadOlder leads through it", async () => {
  const fake = new FakeParley();
  fake.group(G, "alice", "bob");
  for (let i = 1; i <= 500; i++) fake.post(G, "bob", "b1", `m${i}`);
  const alice = await start(fake, "alice", "a1", { maxBacklog: 20 });
  const s = alice.session(G);
  await until(s.messages, (l) => l.length === 20);
  expect(s.messages.value[0]?.seq).toBe(481);
  expect(await s.loadOlder(100)).toBe(true);
  await until(s.messages, (l) => l.length === 120);
  expect(s.messages.value.map((m) => m.seq)).toEqual(Array.from({ length: 120 }, (_, i) => 381 + i));
  while (await s.loadOlder(300));
  await until(s.messages, (l) => l.length === 500);
  expect(await s.loadOlder()).toBe(false);
});

test("unread follows messages, reads here and on other devices, and recalls", async () => {
  const fake = new FakeParley();
  fake.group(G, "alice", "bob");
  const alice = await start(fake);
  const s = alice.session(G);
  for (let i = 0; i < 5; i++) fake.post(G, "bob", "b1", `m${i}`);
  await until(alice.unread, (n) => n === 5);
  fake.recall(G, "bob", 5);
  await until(alice.unread, (n) => n === 4);
  s.markRead(2);
  await until(alice.unread, (n) => n === 2);
  await waitFor(() => fake.reads.length === 1);
  expect(fake.reads).toEqual([[G, 2]]);
  const none = { deletedToSeq: 0n, markedUnread: false, deletedSeqs: [], reload: false };
  fake.tell("alice", { case: "state", value: { sessionId: G, readSeq: 2n, readSeqs: [4n], unread: 1n, ...none } });
  await until(alice.unread, (n) => n === 1);
  fake.tell("alice", { case: "state", value: { sessionId: G, readSeq: 6n, readSeqs: [], unread: 0n, ...none } });
  await until(s.info, (i) => i?.unread === 0 && i.readSeq === 6);
  expect(s.isRead(s.messages.value[2] as never)).toBe(true);
});

test("a recalled message loses its body, and deleting for oneself takes it from the list", async () => {
  const fake = new FakeParley();
  fake.group(G, "alice", "bob");
  const alice = await start(fake);
  const s = alice.session(G);
  fake.post(G, "bob", "b1", "one");
  fake.post(G, "bob", "b1", "two");
  await until(s.messages, (l) => l.length === 2);
  fake.recall(G, "bob", 1);
  const list = await until(s.messages, (l) => l.length === 3);
  expect([list[0]?.isDeleted, list[0]?.content, list[2]?.content]).toEqual([true, undefined, { kind: "recall", seq: 1 }]);
  fake.tell("alice", {
    case: "state",
    value: { sessionId: G, readSeq: 0n, deletedToSeq: 0n, markedUnread: false, readSeqs: [], deletedSeqs: [2n], unread: 0n, reload: false },
  });
  await until(s.messages, (l) => l.length === 2);
});

/** The default is a second. */
const patience = { timeout: 60_000 };

test("typing shows, ends with the message, and lapses after 10 s", async () => {
  const fake = new FakeParley();
  fake.group(G, "alice", "bob");
  const alice = await start(fake);
  const s = alice.session(G);
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "Date"] });
  const typing = (isTyping: boolean): void =>
    fake.tell("alice", {
      case: "signal",
      value: { sessionId: G, senderId: "bob", senderDeviceId: "b1", signal: { kind: { case: "typing", value: { isTyping } } } },
    });
  typing(true);
  await vi.waitUntil(() => s.typing.value.length === 1, patience);
  await vi.advanceTimersByTimeAsync(10_001);
  expect(s.typing.value).toEqual([]);
  typing(true);
  await vi.waitUntil(() => s.typing.value.length === 1, patience);
  fake.post(G, "bob", "b1", "said");
  await vi.waitUntil(() => s.typing.value.length === 0, patience);
  typing(true); // overtook the message
  await vi.advanceTimersByTimeAsync(100);
  expect(s.typing.value).toEqual([]);
});

test("own typing is told once in a while, and its end at once", async () => {
  const fake = new FakeParley();
  fake.group(G, "alice", "bob");
  const s = (await start(fake)).session(G);
  for (let i = 0; i < 10; i++) s.setTyping(true);
  s.setTyping(false);
  s.setTyping(false);
  await waitFor(() => fake.signals.length === 2);
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(fake.signals.length).toBe(2);
});

test("a resync of one session begins it anew and leaves the others", async () => {
  const fake = new FakeParley();
  fake.group(G, "alice", "bob");
  fake.group(H, "alice", "bob");
  const alice = await start(fake);
  const rec = new Recorder(alice, ends.signal);
  fake.post(G, "bob", "b1", "g1");
  fake.post(G, "bob", "b1", "g2");
  fake.post(H, "bob", "b1", "h1");
  await waitFor(() => rec.at(G) === 2 && rec.at(H) === 1);
  (fake.sessions.get(G) as { log: unknown[] }).log.length = 1; // the cursor is past the head now
  fake.end();
  await waitFor(() => rec.events.some((e) => e.type === "reset"));
  await waitFor(() => rec.at(G) === 1);
  expect(rec.problems).toEqual([]);
  expect((await until(alice.session(G).messages, (l) => l.length === 1))[0]?.seq).toBe(1);
  expect(alice.session(H).messages.value.length).toBe(1);
});

test("a reader of events that falls behind slows the stream down and loses nothing", async () => {
  const fake = new FakeParley();
  fake.group(G, "alice", "bob");
  const alice = await start(fake);
  const events = alice.events(ends.signal);
  for (let i = 0; i < 3000; i++) fake.post(G, "bob", "b1", `m${i}`);
  const s = alice.session(G);
  await until(s.messages, (l) => l.length >= 1000);
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(s.messages.value.at(-1)?.seq).toBeLessThan(1200); // the rest waits at the server
  let n = 0;
  for await (const e of events) if (e.type === "message" && e.message.seq === ++n && n === 3000) break;
  expect(n).toBe(3000);
});

test("the list has pinned sessions first, then the newest", async () => {
  const fake = new FakeParley();
  fake.group(G, "alice", "bob");
  fake.group(H, "alice", "bob");
  fake.post(G, "bob", "b1", "older");
  await new Promise((resolve) => setTimeout(resolve, 5));
  fake.post(H, "bob", "b1", "newer");
  const alice = await start(fake);
  expect(alice.sessions.value.map((s) => s.sessionId)).toEqual([H, G]);
  const pinned = fake.view(G, "alice");
  if (pinned.membership) pinned.membership.isPinned = true;
  fake.tell("alice", { case: "session", value: { session: pinned } });
  await until(alice.sessions, (l) => l[0]?.sessionId === G);
});

test("values() gives the newest value to a slow reader and ends with its signal", async () => {
  const fake = new FakeParley();
  fake.group(G, "alice", "bob");
  const alice = await start(fake);
  const abort = new AbortController();
  const seen: number[] = [];
  for (let i = 0; i < 5; i++) fake.post(G, "bob", "b1", `m${i}`);
  for await (const n of alice.unread.values(abort.signal)) {
    seen.push(n);
    await until(alice.unread, (n) => n === 5);
    if (n === 5) abort.abort();
  }
  expect(seen.at(-1)).toBe(5);
  expect(seen.length).toBeLessThanOrEqual(2);
});
