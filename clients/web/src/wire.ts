// What goes over the wire, noted as it passes: for the inspector.
import type { Interceptor } from "@connectrpc/connect";
import type { StateEvent } from "../../typescript/gen/parley/v1/event_pb.js";
import type { AckRequest, SubscribeRequest, SubscribeResponse } from "../../typescript/gen/parley/v1/sync_service_pb.js";
import { toRelation, toResetReason } from "../../typescript/src/convert.js";

/** How many lines are kept. */
const maxLines = 2000;
/** How many changes of the connection's state are kept. */
const maxStates = 200;
/** How many latencies are kept for each histogram. */
const maxLatencies = 5000;

/** One thing that passed. */
export interface Line {
  readonly n: number;
  /** When, by this machine's clock. */
  readonly at: number;
  /** Down: an event of the stream. Up: a call and its answer. */
  readonly way: "down" | "up";
  readonly kind: string;
  readonly sessionId?: string;
  readonly seq?: number;
  readonly detail: string;
  /** How long a call took; of a message, since the server committed it. */
  readonly ms?: number;
  readonly failed?: boolean;
}

export interface Positions {
  shown: number;
  acked: number;
}

/** Events of a stream that are nothing to worry about, as they are called on the wire: all but resync. */
export const kinds = ["message", "state", "readPosition", "session", "relation", "signal", "presence", "skipped", "heartbeat", "opened", "caughtUp"];

type Kind = SubscribeResponse["events"][number]["kind"];

/** Notes all calls and events of one client, within bounds. */
export class Wire {
  lines: Line[] = [];
  readonly positions = new Map<string, Positions>();
  /** Milliseconds from commit to arrival, by two clocks: exact on one machine. */
  readonly delivery: number[] = [];
  /** Milliseconds from call to answer. */
  readonly calls: number[] = [];
  /** Since when the connection was what. */
  states: Array<{ readonly at: number; readonly state: string }> = [];
  events = 0;
  streams = 0;
  #n = 0;

  readonly interceptor: Interceptor = (next) => async (req) => {
    const began = performance.now();
    const { name } = req.method;
    if (!req.stream) {
      try {
        const answer = await next(req);
        this.#call(name, req.message, performance.now() - began);
        return answer;
      } catch (err) {
        this.#note({ way: "up", kind: name, detail: err instanceof Error ? err.message : String(err), ms: performance.now() - began, failed: true });
        throw err;
      }
    }
    this.streams++;
    const answer = await next({ ...req, message: this.#asked(req.message) as never });
    return answer.stream ? { ...answer, message: this.#tap(answer.message) as never } : answer;
  };

  /** Notes what the connection is from now on. */
  connection(state: string): void {
    if (this.states.at(-1)?.state === state) return;
    this.states = [...this.states.slice(1 - maxStates), { at: Date.now(), state }];
  }

  clear(): void {
    this.lines = [];
    this.delivery.length = this.calls.length = 0;
  }

  async *#asked(messages: AsyncIterable<unknown>): AsyncIterable<unknown> {
    for await (const message of messages) {
      const { cursors, epoch, fresh } = message as SubscribeRequest;
      for (const c of cursors) this.#at(c.sessionId).shown = Number(c.seq);
      this.#note({ way: "up", kind: "Subscribe", detail: `${cursors.length} cursors, epoch ${epoch || "none yet"}${fresh ? ", fresh" : ""}` });
      yield message;
    }
  }

  async *#tap(messages: AsyncIterable<unknown>): AsyncIterable<unknown> {
    try {
      for await (const message of messages) {
        for (const { kind } of (message as SubscribeResponse).events) this.#event(kind);
        yield message;
      }
      this.#note({ way: "down", kind: "end", detail: "the server ended the stream" });
    } catch (err) {
      this.#note({ way: "down", kind: "end", detail: err instanceof Error ? err.message : String(err), failed: true });
      throw err;
    }
  }

  #event(kind: Kind): void {
    this.events++;
    const note = (detail: string, more: Partial<Line> = {}): void => this.#note({ way: "down", kind: kind.case ?? "unknown", detail, ...more });
    switch (kind.case) {
      case "message": {
        const m = kind.value;
        const seq = Number(m.seq);
        const at = this.#at(m.sessionId);
        at.shown = Math.max(at.shown, seq);
        const committed = m.createdAt ? Number(m.createdAt.seconds) * 1000 + m.createdAt.nanos / 1e6 : undefined;
        const ms = committed === undefined ? undefined : Date.now() - committed;
        // What is older is backlog: it says nothing of how fast the stream is.
        const live = ms !== undefined && ms < 10_000;
        if (live) keep(this.delivery, Math.max(ms, 0));
        return note(`from ${m.senderId}${m.content?.kind.case ? `, ${m.content.kind.case}` : ""}`, { sessionId: m.sessionId, seq, ...(live && { ms: Math.max(ms, 0) }) });
      }
      case "state":
        return note(stateOf(kind.value), { sessionId: kind.value.sessionId, seq: Number(kind.value.readSeq) });
      case "session":
        return note(kind.value.session?.title || kind.value.session?.peerUserId || "", kind.value.session ? { sessionId: kind.value.session.sessionId } : {});
      case "signal":
        return note(`${kind.value.signal?.kind.case ?? ""} from ${kind.value.senderId}`, { sessionId: kind.value.sessionId });
      case "skipped":
        return note(`${kind.value.fromSeq} to ${kind.value.toSeq}`, { sessionId: kind.value.sessionId, seq: Number(kind.value.toSeq) });
      case "readPosition":
        return note(`${kind.value.userId} read to ${kind.value.readSeq}`, { sessionId: kind.value.sessionId, seq: Number(kind.value.readSeq) });
      case "presence":
        return note(`${kind.value.presence?.userId ?? ""} is ${kind.value.presence?.isOnline ? "online" : "away"}`);
      case "opened":
        return note(`epoch ${kind.value.epoch}, heartbeat ${Number(kind.value.heartbeatInterval?.seconds ?? 0) + (kind.value.heartbeatInterval?.nanos ?? 0) / 1e9} s`);
      case "caughtUp":
        return note(`${kind.value.unreadTotal} unread in all`);
      case "resync":
        return note(`${toResetReason(kind.value.reason)}, epoch ${kind.value.epoch}`, kind.value.sessionId ? { sessionId: kind.value.sessionId } : {});
      case "relation":
        return note(kind.value.relation ? `${kind.value.relation.userId}: ${toRelation(kind.value.relation).kind}` : "");
      default:
        return note("");
    }
  }

  #call(name: string, message: unknown, ms: number): void {
    keep(this.calls, ms);
    if (name !== "Ack") return this.#note({ way: "up", kind: name, detail: "", ms });
    const { acks } = message as AckRequest;
    for (const a of acks) {
      const at = this.#at(a.sessionId);
      at.acked = Math.max(at.acked, Number(a.seq));
    }
    const [one] = acks;
    const where = acks.length === 1 && one ? { sessionId: one.sessionId, seq: Number(one.seq) } : {};
    this.#note({ way: "up", kind: name, detail: acks.length === 1 ? "" : `${acks.length} sessions`, ms, ...where });
  }

  #at(sessionId: string): Positions {
    let at = this.positions.get(sessionId);
    if (!at) this.positions.set(sessionId, (at = { shown: 0, acked: 0 }));
    return at;
  }

  #note(line: Omit<Line, "n" | "at">): void {
    this.lines.push({ n: ++this.#n, at: Date.now(), ...line });
    if (this.lines.length > maxLines * 1.25) this.lines = this.lines.slice(-maxLines);
  }
}

function stateOf(e: StateEvent): string {
  const parts = [`read to ${e.readSeq}`, `${e.unread} unread`];
  if (e.markedUnread) parts.push("marked unread");
  if (e.readSeqs.length > 0) parts.push(`${e.readSeqs.length} read out of order`);
  if (e.deletedSeqs.length > 0) parts.push(`${e.deletedSeqs.length} deleted for the user`);
  if (e.deletedToSeq > 0n) parts.push(`deleted to ${e.deletedToSeq}`);
  return parts.join(", ");
}

function keep(list: number[], value: number): void {
  list.push(value);
  if (list.length > maxLatencies) list.splice(0, list.length - maxLatencies);
}

/** Upper bounds of a histogram's bars, in milliseconds. */
export const bounds = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, Infinity];

/** How many values lie in each bar. */
export function histogram(values: readonly number[]): number[] {
  const bars = bounds.map(() => 0);
  for (const v of values) {
    const i = bounds.findIndex((b) => v <= b);
    bars[i] = (bars[i] ?? 0) + 1;
  }
  return bars;
}

/** The value that a share of all values does not exceed; undefined without values. */
export function quantile(values: readonly number[], share: number): number | undefined {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)];
}
