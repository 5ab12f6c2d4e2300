import type { Member, ParleyClient, Session } from "@parley-im/client";
import { useEffect } from "preact/hooks";
import { useObservable } from "./observe.js";

/** Above this many members nobody is told who has read, and ticks do not show it; the menu of a message does. */
const toldUpTo = 32;

/** The members of a session with how far each has read, kept up to date; none where the session is too large for that. */
export function useReading(client: ParleyClient, session: Session): readonly Member[] {
  const members = useObservable(session.members);
  const info = useObservable(session.info);
  const live = useObservable(client.connection).state === "live";
  const known = info !== undefined && info.isMember && info.memberCount <= toldUpTo;

  useEffect(() => {
    if (live && known) void session.loadMembers().catch(() => {}); // else at the next connection
  }, [live, known, session]);
  return known ? members : [];
}
