import type { Member, ParleyClient, Session } from "@parley-im/client";
import { useEffect } from "preact/hooks";
import { useObservable } from "./observe.js";

/** Says to the others in a session that one has read; they look up how far. Of this page alone. */
const readSign = "parley.web/read";
/** Above this many members nobody is told, and ticks come with the slow look alone. */
const tellUpTo = 20;
/** Above this many members ticks do not show who has read; the menu of a message does. */
const showUpTo = 200;
const lookEveryMs = 5000;
const gatherMs = 300;

/**
 * The members of a session with how far each has read. The server tells a stream only its own user's read states, so
 * others' are looked up: when a page like this one says that its user has read, and every few seconds while one's newest
 * message is not read by all.
 */
export function useReading(client: ParleyClient, session: Session, me: string): readonly Member[] {
  const members = useObservable(session.members);
  const info = useObservable(session.info);
  const live = useObservable(client.connection).state === "live";
  const count = info?.memberCount ?? 0;
  const known = info !== undefined && info.isMember && count <= showUpTo;
  const readSeq = info?.readSeq ?? 0;

  useEffect(() => {
    if (!live || !known) return;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const look = (): void => {
      timer = undefined;
      void session.loadMembers().catch(() => {});
    };
    const soon = (): void => void (timer ??= setTimeout(look, gatherMs));
    look();
    const ends = new AbortController();
    void (async () => {
      for await (const e of client.events(ends.signal)) {
        if (e.type === "signal" && e.sessionId === session.sessionId && e.typeUrl === readSign && e.userId !== me) soon();
      }
    })();
    const every = setInterval(() => {
      const mine = session.messages.value.findLast((m) => m.senderId === me && m.seq > 0 && m.type !== "recall");
      const all = session.members.value.filter((m) => m.userId !== me).every((m) => m.readSeq >= (mine?.seq ?? 0));
      if (document.visibilityState === "visible" && mine && !all) look();
    }, lookEveryMs);
    return () => {
      ends.abort();
      clearTimeout(timer);
      clearInterval(every);
    };
  }, [live, known, session]);

  useEffect(() => {
    if (!live || !known || count > tellUpTo || readSeq === 0) return;
    // After the read position itself, which the client gathers for 250 ms.
    const timer = setTimeout(() => void session.sendSignal({ typeUrl: readSign, payload: new Uint8Array() }).catch(() => {}), 450);
    return () => clearTimeout(timer);
  }, [live, known, readSeq, count > tellUpTo]);
  return known ? members : [];
}
