import { afterEach, expect, test, vi } from "vitest";
import type { ParleyClient, Presence } from "../src/index.js";
import { FakeParley } from "./fake.js";
import { clientOf, until, waitFor } from "./util.js";

const running: ParleyClient[] = [];

async function start(fake: FakeParley, prepare: (client: ParleyClient) => void = () => {}): Promise<ParleyClient> {
  const client = clientOf(fake, "alice", "a1");
  running.push(client);
  prepare(client);
  client.start();
  await until(client.connection, (s) => s.state === "live");
  return client;
}

const isOnline = (p: Presence | undefined): boolean => p?.isOnline === true;
const isAway = (p: Presence | undefined): boolean => p?.isOnline === false;

afterEach(async () => {
  vi.useRealTimers();
  await Promise.all(running.splice(0).map((c) => c.stop()));
});

test("presence of those who are watched is shown, and changes as the stream tells", async () => {
  const fake = new FakeParley();
  fake.online.set("bob", true).set("carol", false);
  const alice = await start(fake, (c) => c.watchPresence(["bob", "carol", "mallory", "bob"]));
  await until(alice.presence("bob"), isOnline);
  await until(alice.presence("carol"), isAway);
  expect(alice.presence("mallory").value).toBeUndefined();
  expect(fake.watches).toEqual([["bob", "carol", "mallory"]]);
  fake.tell("alice", { case: "presence", value: { presence: { userId: "bob", isOnline: false, lastSeenAt: { seconds: 5n, nanos: 0 } } } });
  expect((await until(alice.presence("bob"), isAway))?.lastSeenAt).toEqual(new Date(5000));
});

test("each change is one event, and what nobody asked for is none", async () => {
  const fake = new FakeParley();
  fake.online.set("bob", true);
  const alice = await start(fake);
  const ends = new AbortController();
  const seen: string[] = [];
  void (async () => {
    for await (const e of alice.events(ends.signal)) if (e.type === "presence") seen.push(`${e.presence.userId} ${e.presence.isOnline}`);
  })();
  alice.watchPresence(["bob"]);
  await until(alice.presence("bob"), isOnline);
  fake.tell("alice", { case: "presence", value: { presence: { userId: "eve", isOnline: true } } });
  fake.tell("alice", { case: "presence", value: { presence: { userId: "bob", isOnline: false } } });
  await until(alice.presence("bob"), isAway);
  await waitFor(() => seen.length === 2);
  ends.abort();
  expect(seen).toEqual(["bob true", "bob false"]);
  expect(alice.presence("eve").value).toBeUndefined();
});

test("whom the app asks for replaces whom it asked for before, in one call for several changes", async () => {
  const fake = new FakeParley();
  fake.online.set("bob", true).set("carol", true);
  const alice = await start(fake, (c) => c.watchPresence(["bob"]));
  await until(alice.presence("bob"), isOnline);
  alice.watchPresence([]);
  alice.watchPresence(["dave"]);
  alice.watchPresence(["carol"]);
  await until(alice.presence("carol"), isOnline);
  expect(alice.presence("bob").value).toBeUndefined();
  expect(fake.watches).toEqual([["bob"], ["carol"]]);
  alice.watchPresence(["carol"]);
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(fake.watches.length).toBe(2);
});

test("each new stream is told whom to watch again, and what changed between is shown", async () => {
  const fake = new FakeParley();
  fake.online.set("bob", true);
  const alice = await start(fake, (c) => c.watchPresence(["bob"]));
  await until(alice.presence("bob"), isOnline);
  fake.online.set("bob", false);
  fake.end();
  await until(alice.presence("bob"), isAway);
  expect(fake.watches).toEqual([["bob"], ["bob"]]);
});

test("who comes into sight with a new session is shown", async () => {
  const fake = new FakeParley();
  const alice = await start(fake, (c) => c.watchPresence(["bob"]));
  await waitFor(() => fake.watches.length === 1);
  await new Promise((resolve) => setTimeout(resolve, 20)); // the answer, which names nobody
  fake.online.set("bob", true);
  fake.group("11111111-1111-4111-8111-111111111111", "alice", "bob");
  fake.tell("alice", { case: "session", value: { session: fake.view("11111111-1111-4111-8111-111111111111", "alice") } });
  await until(alice.presence("bob"), isOnline);
});

test("a stream that did not take the watch over is told again", async () => {
  const fake = new FakeParley();
  fake.online.set("bob", true);
  fake.deafToWatches = true;
  vi.useFakeTimers({ shouldAdvanceTime: true });
  const alice = await start(fake, (c) => c.watchPresence(["bob"]));
  await until(alice.presence("bob"), isOnline);
  await vi.advanceTimersByTimeAsync(5100);
  await waitFor(() => fake.watches.length >= 2);
  fake.deafToWatches = false;
  const told = fake.watches.length; // real time passes too
  await vi.advanceTimersByTimeAsync(5100);
  await waitFor(() => fake.watches.length > told);
  await vi.advanceTimersByTimeAsync(20_000);
  expect(fake.watches.length).toBe(told + 1);
});

test("devices are listed, named and revoked", async () => {
  const fake = new FakeParley();
  fake.cursors.set("alice/a2", new Map());
  const alice = await start(fake);
  expect((await alice.devices()).map((d) => [d.deviceId, d.isCurrent])).toEqual([["a1", true], ["a2", false]]);
  expect(await alice.nameDevice("Kitchen")).toMatchObject({ displayName: "Kitchen", platform: "web", isCurrent: true });
  await alice.revokeDevice("a2");
  expect((await alice.devices()).map((d) => d.deviceId)).toEqual(["a1"]);
});

test("blocked users are listed over all pages", async () => {
  const fake = new FakeParley();
  const alice = await start(fake);
  await alice.block("mallory");
  await alice.block("eve");
  expect(await alice.relations("blocked")).toEqual([{ userId: "eve", kind: "blocked" }, { userId: "mallory", kind: "blocked" }]);
  expect(await alice.relations("friend")).toEqual([]);
  await alice.unblock("eve");
  expect((await alice.relations("blocked")).map((r) => r.userId)).toEqual(["mallory"]);
});
