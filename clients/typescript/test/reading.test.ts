import "fake-indexeddb/auto";
import { IDBFactory } from "fake-indexeddb";
import { afterEach, expect, test } from "vitest";
import { IndexedDbStore, type ClientEvent, type ClientOptions, type ParleyClient, type StoreChange } from "../src/index.js";
import { FakeParley } from "./fake.js";
import { clientOf, until, waitFor } from "./util.js";

const running: ParleyClient[] = [];

function start(fake: FakeParley, options: Partial<ClientOptions> = {}): ParleyClient {
  const client = clientOf(fake, "alice", "a1", options);
  running.push(client);
  client.start();
  return client;
}

const live = (client: ParleyClient): Promise<unknown> => until(client.connection, (s) => s.state === "live");
const readBy = (client: ParleyClient, id: string, user: string): number | undefined =>
  client.session(id).members.value.find((m) => m.userId === user)?.readSeq;

afterEach(async () => void (await Promise.all(running.splice(0).map((c) => c.stop()))));

test("how far others have read is shown as the stream tells it, and never moves back", async () => {
  const fake = new FakeParley();
  const id = fake.group(crypto.randomUUID(), "alice", "bob", "carol");
  for (let i = 0; i < 5; i++) fake.post(id, "alice", "a2", `m${i}`);
  const alice = start(fake);
  await live(alice);
  const ends = new AbortController();
  const seen: ClientEvent[] = [];
  void (async () => {
    for await (const e of alice.events(ends.signal)) if (e.type === "read") seen.push(e);
  })();
  const tell = (userId: string, seq: number): void =>
    fake.tell("alice", { case: "readPosition", value: { sessionId: id, userId, readSeq: BigInt(seq) } });

  tell("bob", 2); // nobody has asked for members yet: an event, and nothing else
  await waitFor(() => seen.length === 1);
  expect(alice.session(id).members.value).toEqual([]);
  await alice.session(id).loadMembers();
  expect(readBy(alice, id, "bob")).toBe(0);
  tell("bob", 4);
  tell("bob", 3);
  await waitFor(() => seen.length === 3);
  expect(readBy(alice, id, "bob")).toBe(4);
  expect(readBy(alice, id, "carol")).toBe(0);
  // A list that was asked for before is older than what was told.
  await alice.session(id).loadMembers();
  expect(readBy(alice, id, "bob")).toBe(4);
  // Who sends has read, and no event says so.
  const seq = fake.post(id, "carol", "c1", "all read");
  await waitFor(() => readBy(alice, id, "carol") === seq);
  ends.abort();
  expect(seen.map((e) => e.type === "read" && [e.userId, e.readSeq])).toEqual([["bob", 2], ["bob", 4], ["bob", 3]]);
});

test("stored() resolves once what was shown and entered is in the store", async () => {
  const fake = new FakeParley();
  const id = fake.group(crypto.randomUUID(), "alice", "bob");
  fake.post(id, "bob", "b1", "hi");
  const factory = new IDBFactory();
  const alice = start(fake, { store: new IndexedDbStore("s", factory) });
  await live(alice);
  await until(alice.session(id).messages, (l) => l.length === 1);
  fake.gate = () => {
    throw new Error("nothing gets through");
  };
  alice.session(id).send("late");
  await alice.stored();
  const kept = await new IndexedDbStore("s", factory).load(10);
  expect(kept.sessions[0]?.messages.map((m) => m.seq)).toEqual([1]);
  expect(kept.outbox.map((o) => o.content)).toEqual([{ kind: "text", body: "late" }]);
});

test("what is acknowledged was kept before", async () => {
  const fake = new FakeParley();
  const id = fake.group(crypto.randomUUID(), "alice", "bob");
  let acksBefore = -1;
  class SlowStore extends IndexedDbStore {
    override async write(change: StoreChange): Promise<void> {
      if (change.messages?.length) {
        await new Promise((resolve) => setTimeout(resolve, 1500)); // three times what acks are gathered
        await super.write(change);
        acksBefore = fake.acks.length;
      } else await super.write(change);
    }
  }
  const alice = start(fake, { store: new SlowStore("s", new IDBFactory()) });
  await live(alice);
  fake.post(id, "bob", "b1", "hi");
  await waitFor(() => fake.acks.length === 1);
  expect(acksBefore).toBe(0);
});
