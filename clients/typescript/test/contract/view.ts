import type { Message, ParleyClient, Session } from "../../src/index.js";
import type { Recorder } from "../util.js";

/** All that a device shows of itself and of one session, in the words of the contract. */
export function look(client: ParleyClient, recorder: Recorder, session: Session, watched: readonly string[]): object {
  const { sessionId } = session;
  const { state, error } = client.connection.value;
  const { events } = recorder;
  const info = session.info.value;
  return {
    connection: state,
    reason: error?.reason ?? "",
    problems: recorder.problems,
    resets: events.flatMap((e) => (e.type === "reset" && (!e.sessionId || e.sessionId === sessionId) ? [e.reason] : [])),
    shown: events.flatMap((e) => (e.type === "message" && e.message.sessionId === sessionId ? [entry(e.message)] : [])),
    skipped: events.flatMap((e) => (e.type === "skipped" && e.sessionId === sessionId ? [`${e.fromSeq}-${e.toSeq}`] : [])),
    listed: session.messages.value.map(entry),
    info: info
      ? {
          title: info.title,
          isMember: info.isMember,
          role: info.role,
          memberCount: info.memberCount,
          isMuted: info.isMuted,
          isPinned: info.isPinned,
          markedUnread: info.markedUnread,
          unread: info.unread,
          readSeq: info.readSeq,
          headSeq: info.headSeq,
        }
      : null,
    typing: session.typing.value,
    members: session.members.value.map((m) => `${m.userId} ${m.role}`).sort(),
    reading: session.members.value.map((m) => `${m.userId} ${m.readSeq}`).sort(),
    online: watched.filter((user) => client.presence(user).value?.isOnline).sort(),
    sessions: client.sessions.value.map((s) => s.sessionId),
    unread: client.unread.value,
  };
}

export function entry(m: Message): string {
  const reply = m.replyToSeq ? ` (re ${m.replyToSeq})` : "";
  const status = m.status === "sent" ? "" : m.status === "pending" ? " pending" : ` failed ${m.failure?.reason}`;
  return `${m.seq || "-"} ${m.senderId} ${what(m)}${reply}${status}`;
}

function what(m: Message): string {
  if (m.isDeleted) return "(recalled)";
  const c = m.content;
  switch (c?.kind) {
    case "text":
      return c.body;
    case "custom":
      return `custom ${c.typeUrl}`;
    case "attachment":
      return `attachment ${c.url}`;
    case "recall":
      return `recalls ${c.seq}`;
    case "memberChange":
      return `${c.change} ${[...c.userIds].sort().join(" ")}${c.change === "roleChanged" ? ` ${c.role}` : ""}`;
    case "sessionChange":
      return (
        "settings" +
        (c.title === undefined ? "" : ` title=${c.title}`) +
        (c.avatarUrl === undefined ? "" : ` avatarUrl=${c.avatarUrl}`) +
        (c.historyVisible === undefined ? "" : ` historyVisible=${c.historyVisible}`) +
        (c.sendRole === undefined ? "" : ` sendRole=${c.sendRole}`)
      );
    default:
      return "unknown";
  }
}
