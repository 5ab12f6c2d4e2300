import type { Member, Message, SessionInfo } from "@parley-im/client";

/** How a session is called in lists. */
export function titleOf(info: SessionInfo | undefined, peer?: string): string {
  if (!info) return peer ?? "Conversation";
  if (info.kind === "direct") return info.peerUserId || peer || "Conversation";
  return info.title || "Untitled group";
}

/** The first n of what people take for letters: a flag, or a face with its colour, is one. */
function letter(word: string, n: number): string {
  return Array.from(new Intl.Segmenter().segment(word.slice(0, 64)), (s) => s.segment).slice(0, n).join("");
}

export function initials(name: string): string {
  const words = name.split(/[\s._-]+/).filter(Boolean);
  const letters = words.length > 1 ? letter(words[0]!, 1) + letter(words[1]!, 1) : letter(name, 2);
  return letters.toUpperCase();
}

/** One of eight colours, the same for the same name. */
export function hue(name: string): number {
  let h = 0;
  for (const c of name) h = (h * 31 + c.codePointAt(0)!) >>> 0;
  return h % 8;
}

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const weekday = new Intl.DateTimeFormat(undefined, { weekday: "short" });
const date = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const whole = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });
const day = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });

export const timeOf = (d: Date): string => clock.format(d);
export const exactly = (d: Date): string => whole.format(d);

/** Days between two dates by the calendar. */
function daysAgo(d: Date): number {
  const at = (x: Date): number => new Date(x.getFullYear(), x.getMonth(), x.getDate()).getTime();
  return Math.round((at(new Date()) - at(d)) / 86_400_000);
}

/** Short, for lists. */
export function shortTime(d: Date): string {
  const ago = daysAgo(d);
  return ago === 0 ? clock.format(d) : ago > 0 && ago < 7 ? weekday.format(d) : date.format(d);
}

export function dayOf(d: Date): string {
  const ago = daysAgo(d);
  return ago === 0 ? "Today" : ago === 1 ? "Yesterday" : day.format(d);
}

export function agoOf(d: Date): string {
  const s = Math.max(0, (Date.now() - d.getTime()) / 1000);
  if (s < 60) return "just now";
  if (s < 3600) return `${Math.floor(s / 60)} min ago`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h ago`;
  return date.format(d);
}

/** Names for a sentence: "alice, bob and 3 others". */
export function names(ids: readonly string[], me = ""): string {
  const shown = ids.map((id) => (id === me ? "you" : id));
  if (shown.length <= 3) return shown.length < 2 ? (shown[0] ?? "") : `${shown.slice(0, -1).join(", ")} and ${shown.at(-1)}`;
  return `${shown.slice(0, 2).join(", ")} and ${shown.length - 2} others`;
}

/** What a log entry that is no message says; undefined for messages. */
export function noticeOf(m: Message, me: string): string | undefined {
  const c = m.content;
  const who = m.senderId === me ? "You" : m.senderId;
  if (c?.kind === "memberChange") {
    const whom = names(c.userIds, me);
    switch (c.change) {
      case "created": return `${who} started the conversation`;
      case "added": return `${who} added ${whom}`;
      case "removed": return `${who} removed ${whom}`;
      case "left": return `${who} left`;
      case "roleChanged": return `${who} made ${whom} ${c.role === "member" ? "a member" : c.role === "owner" ? "the owner" : "an admin"}`;
      case "muted": return `${who} muted ${whom}`;
      case "unmuted": return `${who} unmuted ${whom}`;
      default: return `${who} changed the members`;
    }
  }
  if (c?.kind === "sessionChange") {
    if (c.title !== undefined) return `${who} named the group “${c.title}”`;
    if (c.sendRole !== undefined) return c.sendRole === "member" ? `${who} let everybody write` : `${who} let only admins write`;
    return `${who} changed the group`;
  }
  return m.type === "unknown" ? "Something that this page does not know yet" : undefined;
}

/** One line about a message, for lists and quotes. */
export function summary(m: Message, me: string): string {
  if (m.isDeleted) return "Message recalled";
  const c = m.content;
  if (m.type === "recall") return "Message recalled";
  if (c?.kind === "text") return Array.from(c.body.slice(0, 400).replace(/\s+/g, " ")).slice(0, 120).join(""); // no half of an emoji
  if (c?.kind === "attachment") return c.caption || c.name || "Attachment";
  if (c?.kind === "custom") return c.typeUrl;
  return noticeOf(m, me) ?? "";
}

/** How many of the other members have read up to a seq. */
export function readBy(members: readonly Member[], me: string, seq: number): { read: number; of: number } {
  const others = members.filter((m) => m.userId !== me);
  return { read: others.filter((m) => m.readSeq >= seq).length, of: others.length };
}
