import { afterEach, expect, test } from "vitest";
import type { ParleyClient } from "../src/index.js";
import { FakeParley } from "./fake.js";
import { clientOf, Recorder, until, waitFor } from "./util.js";

const G = "11111111-1111-4111-8111-111111111111";
const running: ParleyClient[] = [];
const ends = new AbortController();

function start(fake: FakeParley, user: string, device: string, options = {}): ParleyClient {
  const client = clientOf(fake, user, device, options);
  running.push(client);
  client.start();
  return client;
}

afterEach(async () => {
  await Promise.all(running.splice(0).map((c) => c.stop()));
});

test("a message reaches the other's list, and the sender's takes its place", async () => {
  const fake = new FakeParley();
  const [alice, bob] = [start(fake, "alice", "a1"), start(fake, "bob", "b1")];
  const rec = new Recorder(bob, ends.signal);
  await Promise.all([alice, bob].map((c) => until(c.connection, (s) => s.state === "live")));
  const toBob = await alice.direct("bob");
  const { message, sent } = toBob.send("hi");
  expect(toBob.messages.value).toEqual([message]);
  expect(message.status).toBe("pending");
  expect(await sent).toMatchObject({ seq: 1, status: "sent", messageId: message.messageId });
  const [first] = await until(toBob.messages, (l) => l[0]?.status === "sent");
  expect(first).toMatchObject({ seq: 1 });
  const fromAlice = await bob.direct("alice");
  const list = await until(fromAlice.messages, (l) => l.length === 1);
  expect(list[0]).toMatchObject({ seq: 1, senderId: "alice", content: { kind: "text", body: "hi" } });
  expect(bob.unread.value).toBe(1);
  fromAlice.markRead();
  expect((await until(bob.unread, (n) => n === 0))).toBe(0);
  await waitFor(() => fake.reads.length === 1);
  expect(rec.problems).toEqual([]);
});

test("resumes where it stood after a cut, with the outbox in order", async () => {
  const fake = new FakeParley();
  fake.group(G, "alice", "bob");
  const alice = start(fake, "alice", "a1");
  const rec = new Recorder(alice, ends.signal);
  await until(alice.connection, (s) => s.state === "live");
  fake.post(G, "bob", "b1", "one");
  await waitFor(() => rec.at(G) === 1);
  fake.fates = ["lost", "away", "lost", "ok", "away"];
  const s = alice.session(G);
  const sent = ["a", "b", "c", "d"].map((body) => s.send(body).sent);
  fake.end();
  fake.post(G, "bob", "b1", "two");
  await Promise.all(sent);
  await waitFor(() => rec.at(G) === 6);
  expect(rec.problems).toEqual([]);
  expect(rec.bodies.get(G)?.filter((b) => b.length === 1)).toEqual(["a", "b", "c", "d"]);
  expect(s.messages.value.map((m) => m.seq)).toEqual([1, 2, 3, 4, 5, 6]);
  expect(fake.subscribes[1]?.cursors.map((c) => Number(c.seq))).toEqual([1]);
});
