import type { Message } from "./model.js";
import type { Store, StoreChange, StoredDevice, StoredOutgoing, StoredSession, StoredState } from "./store.js";
import { erased } from "./thread.js";

/** The version of the database's layout. */
const version = 1;

const none: readonly never[] = [];

/**
 * A {@link Store} in the browser's IndexedDB: one database per name.
 *
 * @example
 * ```ts
 * new ParleyClient({ baseUrl, token, store: new IndexedDbStore(`parley-${userId}`) });
 * ```
 */
export class IndexedDbStore implements Store {
  #db: Promise<IDBDatabase> | undefined;

  /**
   * @param name - of the database; one per user and device
   * @param factory - where databases are made; the browser's
   */
  constructor(
    private readonly name: string,
    private readonly factory: IDBFactory = indexedDB,
  ) {}

  /** Reads everything but old messages. */
  async load(messages: number): Promise<StoredState> {
    const tx = (await this.#open()).transaction(["device", "sessions", "messages", "outbox"]);
    const log = tx.objectStore("messages");
    const [device, sessions, outbox] = await Promise.all([
      result<StoredDevice | undefined>(tx.objectStore("device").get(0)),
      result<StoredSession[]>(tx.objectStore("sessions").getAll()),
      result<StoredOutgoing[]>(tx.objectStore("outbox").getAll()),
    ]);
    const out = await Promise.all(
      sessions.map(async (session) => ({
        session,
        messages: await newest(log, range(session.sessionId, 0, Infinity), messages),
      })),
    );
    return { ...(device && { device }), sessions: out, outbox: outbox.sort((a, b) => a.order - b.order) };
  }

  /** The last messages before a seq. */
  async messagesBefore(sessionId: string, beforeSeq: number, limit: number): Promise<readonly Message[]> {
    const tx = (await this.#open()).transaction("messages");
    return newest(tx.objectStore("messages"), range(sessionId, 0, beforeSeq - 1), limit);
  }

  /** Carries out a change as one transaction. */
  async write(change: StoreChange): Promise<void> {
    const db = await this.#open();
    const tx = db.transaction(["device", "sessions", "messages", "outbox"], "readwrite");
    const done = finished(tx);
    const [sessions, log, outbox] = [tx.objectStore("sessions"), tx.objectStore("messages"), tx.objectStore("outbox")];
    if (change.clear) for (const name of Array.from(tx.objectStoreNames)) tx.objectStore(name).clear();
    for (const id of change.dropMessages ?? none) log.delete(range(id, 0, Infinity));
    if (change.device) tx.objectStore("device").put(change.device, 0);
    for (const s of change.sessions ?? none) sessions.put(s);
    for (const id of change.dropSessions ?? none) {
      sessions.delete(id);
      log.delete(range(id, 0, Infinity));
    }
    for (const m of change.messages ?? none) log.put(m);
    for (const { sessionId, seq } of change.erase ?? none) {
      const get = log.get([sessionId, seq]);
      get.onsuccess = () => get.result && log.put(erased(get.result as Message));
    }
    for (const { sessionId, upToSeq } of change.trim ?? none) log.delete(range(sessionId, 0, upToSeq));
    for (const o of change.outbox ?? none) outbox.put({ ...o, messageId: o.message.messageId });
    for (const id of change.dropOutbox ?? none) outbox.delete(id);
    await done;
  }

  /** Closes the database. */
  async close(): Promise<void> {
    const db = this.#db;
    this.#db = undefined;
    (await db?.catch(() => undefined))?.close();
  }

  #open(): Promise<IDBDatabase> {
    return (this.#db ??= new Promise<IDBDatabase>((resolve, reject) => {
      const open = this.factory.open(this.name, version);
      open.onupgradeneeded = () => {
        open.result.createObjectStore("device");
        open.result.createObjectStore("sessions", { keyPath: "sessionId" });
        open.result.createObjectStore("messages", { keyPath: ["sessionId", "seq"] });
        open.result.createObjectStore("outbox", { keyPath: "messageId" });
      };
      open.onsuccess = () => {
        open.result.onversionchange = () => open.result.close(); // a tab with a newer layout goes first
        resolve(open.result);
      };
      open.onerror = () => reject(open.error ?? new Error("IndexedDB cannot be opened"));
    }).catch((err: unknown) => {
      this.#db = undefined;
      throw err;
    }));
  }
}

function range(sessionId: string, from: number, to: number): IDBKeyRange {
  return IDBKeyRange.bound([sessionId, from], [sessionId, to]);
}

function result<T>(request: IDBRequest): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result as T);
    request.onerror = () => reject(request.error ?? new Error("IndexedDB cannot be read"));
  });
}

function finished(tx: IDBTransaction): Promise<void> {
  return new Promise((resolve, reject) => {
    tx.oncomplete = () => resolve();
    tx.onabort = () => reject(tx.error ?? new Error("IndexedDB cannot be written"));
  });
}

// The last messages of a range, read backwards, ascending.
function newest(log: IDBObjectStore, keys: IDBKeyRange, limit: number): Promise<Message[]> {
  return new Promise((resolve, reject) => {
    const out: Message[] = [];
    const request = log.openCursor(keys, "prev");
    request.onsuccess = () => {
      const cursor = request.result;
      if (!cursor || out.length >= limit) return resolve(out.reverse());
      out.push(cursor.value as Message);
      cursor.continue();
    };
    request.onerror = () => reject(request.error ?? new Error("IndexedDB cannot be read"));
  });
}
