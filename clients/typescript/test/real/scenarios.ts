// What must hold against the real server, wherever the devices are: in Node or in tabs of a browser.
import { expect, test } from "vitest";
import type { Device, DeviceOptions } from "./device.js";
import type { Server } from "./server.js";

/** A device as the scenarios work it: every call may have to travel. */
export type Remote = {
  [K in keyof Device]: Device[K] extends (...args: infer A) => infer R ? (...args: A) => Promise<Awaited<R>> : never;
} & {
  /** Ends it without a word, as closing a tab does, and makes a new one that has its store. */
  reload(options: DeviceOptions): Promise<void>;
};

export interface World {
  server: () => Server;
  /** A new device, not open yet. */
  device(user: string, device: string): Promise<Remote>;
  /** Ends all devices. */
  clear(): Promise<void>;
}

let round = 0;

export function scenarios(world: World): void {
  const names = (): { a: string; b: string; baseUrl: string } => {
    round++;
    return { a: `alice${round}`, b: `bob${round}`, baseUrl: world.server().url };
  };
  const open = async (user: string, device: string, options: DeviceOptions): Promise<Remote> => {
    const d = await world.device(user, device);
    await d.open(options);
    await d.state("live");
    return d;
  };
  const numbered = (prefix: string, n: number): string[] => Array.from({ length: n }, (_, i) => `${prefix}${i}`);
  const scenario = (name: string, fn: () => Promise<void>): void =>
    test(name, async () => {
      try {
        await fn();
      } finally {
        world.server().link.open();
        await world.clear();
      }
    });

  scenario("two tabs as two devices: messages, unread, typing and recalls are the same on both", async () => {
    const { a, b, baseUrl } = names();
    await world.server().token(b, "b1"); // makes the user
    const [a1, a2, b1] = await Promise.all([
      open(a, "a1", { baseUrl, badToken: true }),
      open(a, "a2", { baseUrl }),
      open(b, "b1", { baseUrl }),
    ]);
    const id = await a1.direct(b);
    expect(await b1.direct(a)).toBe(id);
    expect(await a1.sendAll(id, numbered("x", 3))).toEqual([1, 2, 3]);
    await Promise.all([a2.waitSeen(id, 3), b1.waitSeen(id, 3)]);
    await b1.sendAll(id, ["y0"]);
    await Promise.all([a1.waitSeen(id, 4), a2.waitSeen(id, 4)]);
    await Promise.all([a1.waitUnread(id, 1), a2.waitUnread(id, 1), b1.waitUnread(id, 0)]);
    await a1.markRead(id);
    await Promise.all([a1.waitUnread(id, 0), a2.waitUnread(id, 0)]);
    // Who has read is told to the others live; who sends has read.
    await a1.loadMembers(id);
    await a1.waitReadBy(id, b, 4);
    await b1.markRead(id);
    await b1.loadMembers(id);
    await b1.waitReadBy(id, a, 4);
    await a1.sendAll(id, ["z0"]);
    await b1.waitSeen(id, 5);
    await b1.waitReadBy(id, a, 5);
    await b1.markRead(id);
    await a1.waitReadBy(id, b, 5);
    await new Promise((resolve) => setTimeout(resolve, 600)); // a sign right after a message counts as that message's
    await b1.setTyping(id, true);
    await Promise.all([a1.waitTyping(id, [b]), a2.waitTyping(id, [b])]);
    await b1.setTyping(id, false);
    await a1.waitTyping(id, []);
    await a1.recall(id, 2);
    await Promise.all([a1, a2, b1].map((d) => d.waitSeen(id, 6)));
    for (const d of [a1, a2, b1]) {
      expect(await d.bodyOf(id, 2)).toBe("(recalled)");
      const seen = await d.seen(id);
      expect(seen.problems).toEqual([]);
      expect(seen.seqs).toEqual([1, 2, 3, 4, 5, 6]);
      expect(seen.listed.map(([seq]) => seq)).toEqual([1, 2, 3, 4, 5, 6]);
    }
  });

  scenario("the server is killed in mid-stream: nothing is lost, nothing comes twice, the outbox keeps its order", async () => {
    const { a, b, baseUrl } = names();
    const [a1, b1] = [await open(a, "a1", { baseUrl }), await open(b, "b1", { baseUrl })];
    const id = await a1.group("killed", [b]);
    await b1.waitSeen(id, 1);
    const bodies = numbered("m", 200);
    await a1.send(id, bodies.slice(0, 150));
    await b1.waitSeen(id, 20);
    await world.server().kill();
    await a1.send(id, bodies.slice(150));
    await Promise.all([a1.state("connecting"), b1.state("connecting")]);
    await world.server().restart();
    await Promise.all([a1.waitSeen(id, 201), b1.waitSeen(id, 201)]);
    for (const d of [a1, b1]) {
      const seen = await d.seen(id);
      expect(seen.problems).toEqual([]);
      expect(seen.bodies).toEqual(bodies);
      expect(seen.listed.every(([, status]) => status === "sent")).toBe(true);
    }
  });

  scenario("the network breaks, goes silent and comes back: both sides have everything, in order", async () => {
    const { a, b, baseUrl } = names();
    const { link } = world.server();
    const [a1, b1] = [await open(a, "a1", { baseUrl }), await open(b, "b1", { baseUrl })];
    const id = await a1.group("dropped", [b]);
    await b1.waitSeen(id, 1);
    await a1.send(id, numbered("m", 40));
    for (let i = 0; i < 5; i++) {
      await new Promise((resolve) => setTimeout(resolve, 30));
      link.cut();
    }
    await a1.sendAll(id, ["after"]);
    await b1.waitSeen(id, 42); // so its stream is a new one
    await b1.state("live");
    link.mute();
    await b1.send(id, numbered("n", 5));
    // Only the heartbeat tells that a silent network is gone.
    expect(await b1.state("connecting")).toBe("STREAM_SILENT");
    link.close();
    await a1.send(id, numbered("o", 5));
    link.open();
    await Promise.all([a1.waitSeen(id, 52), b1.waitSeen(id, 52)]);
    const [seenA, seenB] = [await a1.seen(id), await b1.seen(id)];
    expect([...seenA.problems, ...seenB.problems]).toEqual([]);
    expect(seenA.bodies).toEqual(seenB.bodies);
    expect(seenB.bodies.filter((s) => s[0] !== "n")).toEqual([...numbered("m", 40), "after", ...numbered("o", 5)]);
    expect(seenB.bodies.filter((s) => s[0] === "n")).toEqual(numbered("n", 5));
  });

  scenario("a backlog of 10,000 messages comes whole and in order, or is left out with notice", async () => {
    const { a, b, baseUrl } = names();
    const server = world.server();
    const token = await server.token(a, "a1");
    const sendAll = async (sessionId: string, from: number, to: number): Promise<void> => {
      for (let at = from; at < to; at += 250) {
        const messages = Array.from({ length: Math.min(250, to - at) }, (_, i) => ({
          sessionId,
          messageId: crypto.randomUUID(),
          content: { text: { body: `m${at + i}` } },
        }));
        await server.call("MessageService/SendMessages", { messages }, token);
      }
    };
    const b1 = await open(b, "b1", { baseUrl });
    const b2 = await open(b, "b2", { baseUrl });
    const id = await b1.group("backlog", [a]);
    await b2.waitSeen(id, 1);
    await Promise.all([b1.stop(), b2.stop()]);
    await sendAll(id, 0, 10_000);
    const back = await open(b, "b1", { baseUrl });
    await back.waitSeen(id, 10_001);
    const seen = await back.seen(id);
    expect(seen.problems).toEqual([]);
    expect(seen.bodies.length).toBe(10_000);
    expect(seen.bodies).toEqual(numbered("m", 10_000));
    expect(seen.unread).toBe(10_000);
    expect(seen.listed.length).toBe(1000); // what stays in memory
    expect(await back.loadOlder(id, 500)).toBe(true);
    expect((await back.seen(id)).listed.map(([seq]) => seq)).toEqual(Array.from({ length: 1500 }, (_, i) => 8502 + i));
    const short = await open(b, "b2", { baseUrl, maxBacklog: 100 });
    await short.waitSeen(id, 10_001);
    const some = await short.seen(id);
    expect(some.problems).toEqual([]);
    expect([some.skipped, some.seqs.length, some.seqs.at(-1)]).toEqual([1, 100, 10_001]);
  });

  scenario("a reload goes on where it stood, offline too, and sends what waited", async () => {
    const { a, b, baseUrl } = names();
    const { link } = world.server();
    const store = `store-${a}`;
    const a1 = await open(a, "a1", { baseUrl, store });
    const b1 = await open(b, "b1", { baseUrl });
    const id = await a1.group("reloaded", [b]);
    await a1.sendAll(id, numbered("m", 10));
    await b1.waitSeen(id, 11);
    await b1.sendAll(id, ["n0"]);
    await a1.waitSeen(id, 12);
    link.close();
    await a1.send(id, ["late0", "late1"]);
    await a1.waitListed(id, 14);
    await a1.stored();
    await a1.reload({ baseUrl, store }); // still without a network
    await a1.waitListed(id, 14);
    const before = await a1.seen(id);
    expect(before.listed.slice(-2)).toEqual([[0, "pending"], [0, "pending"]]);
    expect(before.unread).toBe(1); // what waits to be sent has read nothing yet
    link.open();
    await Promise.all([a1.waitSeen(id, 14), b1.waitSeen(id, 14)]);
    await a1.waitUnread(id, 0); // and what was sent has
    const [seenA, seenB] = [await a1.seen(id), await b1.seen(id)];
    expect([...seenA.problems, ...seenB.problems]).toEqual([]);
    expect(seenA.seqs).toEqual([13, 14]); // the rest was shown before the reload
    expect(seenA.listed.map(([seq]) => seq)).toEqual(Array.from({ length: 14 }, (_, i) => i + 1));
    expect(seenB.bodies.slice(-2)).toEqual(["late0", "late1"]);
    expect(await a1.errors()).toEqual([]);
  });

  scenario("what cannot be repaired ends there: a displaced tab, a revoked device, a member who was removed", async () => {
    const { a, b, baseUrl } = names();
    const [a1, b1] = [await open(a, "a1", { baseUrl }), await open(b, "b1", { baseUrl })];
    const id = await a1.group("ended", [b]);
    await b1.waitSeen(id, 1);
    await a1.removeMember(id, b);
    await b1.waitSeen(id, 2);
    expect(await b1.refused(id, "still here?")).toBe("SESSION_UNAVAILABLE");
    expect(await b1.titles()).toEqual([]);
    const other = await open(a, "a1", { baseUrl });
    expect(await a1.state("offline")).toBe("STREAM_DISPLACED");
    await a1.start(); // takes it back
    await a1.state("live");
    expect(await other.state("offline")).toBe("STREAM_DISPLACED");
    await world.server().call("DeviceService/RevokeDevice", { deviceId: "b1" }, await world.server().token(b, "b2"));
    expect(await b1.state("offline")).toBe("DEVICE_REVOKED");
  });
}
