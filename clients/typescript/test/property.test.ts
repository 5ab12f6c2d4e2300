// The promise, whatever is cut: what the app sees of each session's log is gapless, in order, and once, and what it sends
// is in the log once, in the order in which it was handed over.
import fc from "fast-check";
import { IDBFactory, IDBKeyRange } from "fake-indexeddb";
import { expect, test } from "vitest";
import { IndexedDbStore, type ClientOptions, type ParleyClient } from "../src/index.js";
import { FakeParley } from "./fake.js";
import { clientOf, Recorder, until, waitFor } from "./util.js";

Object.assign(globalThis, { IDBKeyRange });

const ids = ["11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"];

type Step =
  | { do: "post"; session: number; n: number } // somebody else writes
  | { do: "sibling"; session: number } // the user writes from another device
  | { do: "send"; session: number; n: number } // the app writes
  | { do: "cut" | "close" | "recall" | "restart" | "reload" | "epoch" | "rest" }
  | { do: "cutAfter"; events: number }
  | { do: "fate"; fates: Array<"ok" | "lost" | "away"> };

const session = fc.nat({ max: ids.length - 1 });
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constant("post" as const), session, n: fc.integer({ min: 1, max: 120 }) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("sibling" as const), session }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant("send" as const), session, n: fc.integer({ min: 1, max: 4 }) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constantFrom("cut", "close", "recall", "restart", "reload", "epoch", "rest") }) as fc.Arbitrary<Step> },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("cutAfter" as const), events: fc.integer({ min: 1, max: 30 }) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("fate" as const), fates: fc.array(fc.constantFrom("ok" as const, "lost" as const, "away" as const), { maxLength: 4 }) }) },
);

/** An app on a device that may be reloaded: it notes what it is shown over all its lives. */
class App {
  client!: ParleyClient;
  readonly shown = new Map<string, number>(); // the app's own notes, as a page with a database would keep them
  readonly problems: string[] = [];
  readonly sent: string[][] = ids.map(() => []);
  #ends = new AbortController();
  #recorder: Recorder | undefined;

  constructor(
    private readonly fake: FakeParley,
    private readonly options: () => Partial<ClientOptions>,
  ) {}

  open(): void {
    this.#ends = new AbortController();
    this.client = clientOf(this.fake, "alice", "a1", this.options());
    this.#recorder = new Recorder(this.client, this.#ends.signal);
    this.client.start();
  }

  /** Ends this life. Returns what it showed. */
  async close(): Promise<Recorder> {
    await this.client.stop();
    this.#ends.abort();
    return this.#recorder as Recorder;
  }

  get recorder(): Recorder {
    return this.#recorder as Recorder;
  }
}

async function live(fake: FakeParley, steps: Step[], persistent: boolean): Promise<void> {
  const factory = new IDBFactory();
  const app = new App(fake, () => (persistent ? { store: new IndexedDbStore("s", factory) } : {}));
  for (const id of ids) fake.group(id, "alice", "bob");
  fake.post(ids[0] as string, "bob", "b1", "before");
  let n = 0;
  let epochs = 0;
  let last = new Map<string, number>(); // where the life before ended
  app.open();

  const judge = (): void => expect([...app.recorder.problems, ...app.recorder.resets]).toEqual([]);
  // A new life with a store begins right after the old one's last seq.
  const begin = (rec: Recorder): void => {
    const first = new Map<string, number>();
    for (const e of rec.events) {
      if (e.type === "reset") return;
      if (e.type !== "message" && e.type !== "skipped") continue;
      const [id, seq] = e.type === "message" ? [e.message.sessionId, e.message.seq] : [e.sessionId, e.fromSeq];
      if (!first.has(id)) first.set(id, seq);
    }
    for (const [id, seq] of first) if (last.has(id)) expect(seq).toBe((last.get(id) as number) + 1);
  };

  for (const s of steps) {
    switch (s.do) {
      case "post":
        for (let i = 0; i < s.n; i++) fake.post(ids[s.session] as string, "bob", "b1", `b${n++}`);
        break;
      case "sibling":
        fake.post(ids[s.session] as string, "alice", "a2", `s${n++}`);
        break;
      case "send":
        for (let i = 0; i < s.n; i++) {
          const body = `a${n++}`;
          app.sent[s.session]?.push(body);
          app.client.session(ids[s.session] as string).send(body);
        }
        break;
      case "cut":
        fake.end();
        break;
      case "close":
        fake.end("close");
        break;
      case "recall":
        for (const [id, { log }] of fake.sessions) if (log.length > 0) fake.recall(id, "bob", log.length);
        break;
      case "restart":
        await app.client.stop();
        app.client.start();
        break;
      case "reload": {
        if (!persistent) break;
        const rec = await app.close();
        expect([...rec.problems, ...rec.resets]).toEqual([]);
        begin(rec);
        const resets = rec.events.some((e) => e.type === "reset");
        last = resets ? new Map() : new Map(last);
        for (const id of ids) if (rec.at(id) > 0) last.set(id, rec.at(id));
        app.open();
        break;
      }
      case "epoch":
        if (epochs++ < 2) fake.newEpoch(`e${epochs + 1}`);
        break;
      case "rest":
        await new Promise((resolve) => setTimeout(resolve, 3));
        break;
      case "cutAfter":
        fake.cuts.push(s.events);
        break;
      case "fate":
        fake.fates.push(...s.fates);
    }
    if (s.do !== "post") await Promise.resolve();
  }
  fake.cuts = [];
  fake.fates = [];
  // Everything settles: the outbox empties and every log is shown to its head.
  await until(app.client.connection, (c) => c.state === "live");
  for (const [i, id] of ids.entries()) {
    const log = (): string[] => fake.sessions.get(id)?.log.map((m) => m.messageId) ?? [];
    await waitFor(() => {
      const list = app.client.session(id).messages.value;
      return list.every((m) => m.status === "sent") && (list.at(-1)?.seq ?? last.get(id) ?? 0) >= log().length;
    });
    await until(app.client.connection, (c) => c.state === "live");
    const list = app.client.session(id).messages.value;
    const seqs = list.map((m) => m.seq);
    expect(seqs).toEqual(seqs.map((_, k) => (seqs[0] as number) + k)); // the list has no holes and nothing twice
    const full = fake.sessions.get(id)?.log ?? [];
    for (const m of list) {
      expect(m.messageId).toBe(full[m.seq - 1]?.messageId);
      expect(m.content === undefined).toBe(full[m.seq - 1]?.isDeleted); // recalled bodies are gone
    }
    const mine = full.filter((m) => m.senderId === "alice" && m.senderDeviceId === "a1");
    const requests = new Map(fake.sends.map((r) => [r.messageId, r.content?.kind.value as { body: string }]));
    expect(mine.map((m) => requests.get(m.messageId)?.body)).toEqual(app.sent[i]);
  }
  judge();
  if (persistent) begin(app.recorder);
  await app.close();
}

// Found by these tests: an own message that was answered before the place was known where its session begins anew, and
// one that was entered right after a reload, before what waited had been read.
const reset: Step[] = [{ do: "rest" }, { do: "send", session: 1, n: 1 }, { do: "epoch" }];
const reloaded: Step[] = [{ do: "send", session: 1, n: 1 }, { do: "reload" }, { do: "send", session: 1, n: 1 }];

const seed = process.env["SEED"] ? { seed: Number(process.env["SEED"]) } : {};

test("gapless, in order, once: in memory", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 25 }), (steps) => live(new FakeParley(), steps, false)),
    { numRuns: 60, ...seed },
  );
}, 480_000);

test("gapless, in order, once: with a store, over reloads", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 25 }), (steps) => live(new FakeParley(), steps, true)),
    { numRuns: 40, examples: [[reloaded], [reset]], ...seed },
  );
}, 480_000);
