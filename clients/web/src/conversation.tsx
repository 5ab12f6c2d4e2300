import type { Message, ParleyClient, Session } from "@parley-im/client";
import type { JSX } from "preact";
import { memo } from "preact/compat";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { Composer } from "./composer.js";
import { agoOf, dayOf, exactly, hue, noticeOf, readBy, summary, timeOf, titleOf } from "./format.js";
import { useObservable, usePromise, useTick } from "./observe.js";
import { Avatar, Dialog, ErrorText, explain, Icon, Menu, Ticks, type MenuItem } from "./parts.js";
import { useReading } from "./reading.js";

/** How near to the end counts as being there, in pixels. */
const nearPx = 80;

interface Props {
  readonly client: ParleyClient;
  readonly sessionId: string;
  readonly peer: string | undefined;
  readonly me: string;
  readonly detailsOpen: boolean;
  readonly onBack: () => void;
  readonly onDetails: () => void;
}

/** One conversation: its head, its log, and where to write. */
export function Conversation(props: Props): JSX.Element {
  const { client, sessionId, me } = props;
  const session = client.session(sessionId);
  const info = useObservable(session.info);
  const messages = useObservable(session.messages);
  const connection = useObservable(client.connection);
  const members = useReading(client, session);
  const [answering, setAnswering] = useState<Message>();
  const [readersOf, setReadersOf] = useState<number>();
  const [error, setError] = useState("");
  const since = useRef(info?.readSeq); // where the user had read to when it was opened
  since.current ??= info?.readSeq; // not known at once after a reload
  const title = titleOf(info, props.peer);
  const isAdmin = info?.kind === "group" && info.role !== "member";
  const attempt = (what: Promise<unknown>): void => void what.then(() => setError(""), (err: unknown) => setError(explain(err)));

  const actions = (m: Message): MenuItem[] => {
    const items: MenuItem[] = [];
    const text = m.content?.kind === "text" ? m.content.body : undefined;
    if (m.status === "failed") {
      items.push({ label: "Send again", run: () => session.retry(m.messageId) });
      items.push({ label: "Discard", run: () => session.discard(m.messageId), danger: true });
      return items;
    }
    if (m.status !== "sent") return items;
    if (!m.isDeleted) items.push({ label: "Reply", run: () => setAnswering(m) });
    if (text !== undefined) items.push({ label: "Copy", run: () => attempt(navigator.clipboard.writeText(text)) });
    if (m.senderId === me && !m.isDeleted) {
      items.push({ label: "Who has read it", run: () => setReadersOf(m.seq) });
    }
    if (!m.isDeleted && (m.senderId === me || isAdmin)) {
      items.push({ label: "Recall for everybody", run: () => attempt(session.recall(m.seq)), danger: true });
    }
    items.push({ label: "Delete for me", run: () => attempt(session.deleteForMe([m.seq])), danger: true });
    return items;
  };
  const mayWrite = !info || (info.isMember && !info.isMuted && rank(info.role) >= rank(info.sendRole));
  const why = !info?.isMember ? "You are not in this group any more." : info.isMuted ? "An admin has muted you here." : "Only admins write here.";
  return (
    <section class={`conversation${info?.kind === "group" ? " in-group" : ""}`} aria-label={`Conversation with ${title}`}>
      <Head {...props} session={session} title={title} />
      <Log session={session} messages={messages} live={connection.state === "live"} sinceSeq={since.current}
        render={(m, before) => {
          const { read, of } = readBy(members, me, m.seq);
          return (
            <Entry key={m.messageId || m.seq} m={m} me={me} isAdmin={isAdmin} actions={actions}
              follows={before !== undefined && isFollowing(before, m)} inGroup={info?.kind === "group"}
              answered={m.replyToSeq ? (messages.find((x) => x.seq === m.replyToSeq) ?? null) : undefined}
              read={m.senderId === me && m.status === "sent" ? (of > 0 && read === of ? "all" : read > 0 ? `${read} of ${of}` : "") : ""} />
          );
        }} />
      {error && <ErrorText text={error} />}
      <TypingLine session={session} />
      {mayWrite ? (
        <Composer session={session} title={title} answering={answering} me={me} onAnswered={() => setAnswering(undefined)} />
      ) : (
        <p class="closed">{why}</p>
      )}
      {readersOf !== undefined && <Readers session={session} seq={readersOf} onClose={() => setReadersOf(undefined)} />}
    </section>
  );
}

function rank(role: string): number {
  return ["member", "admin", "owner"].indexOf(role);
}

function isFollowing(a: Message, b: Message): boolean {
  return a.senderId === b.senderId && b.createdAt.getTime() - a.createdAt.getTime() < 300_000 && noticeOf(a, "") === undefined;
}

function Head({ client, session, peer, title, detailsOpen, onBack, onDetails }: Props & { session: Session; title: string }): JSX.Element {
  const info = useObservable(session.info);
  const presence = useObservable(client.presence(info?.peerUserId || peer || ""));
  const isGroup = info?.kind === "group";
  const live = useObservable(client.connection).state === "live"; // else nothing is known of others now
  useTick(30_000);
  const state = isGroup ? `${info.memberCount} ${info.memberCount === 1 ? "member" : "members"}`
    : !live ? "" : presence?.isOnline ? "online" : presence?.lastSeenAt ? `last seen ${agoOf(presence.lastSeenAt)}` : "";
  return (
    <header class="bar">
      <button type="button" class="icon-button back" aria-label="Back to conversations" onClick={onBack}><Icon name="back" /></button>
      <Avatar name={title} online={live && !isGroup && presence?.isOnline} />
      <div class="grow">
        <h2 dir="auto" tabIndex={-1}>{title}</h2>
        <p class={`state${live && presence?.isOnline && !isGroup ? " is-online" : ""}`}>{state}</p>
      </div>
      <button type="button" class="icon-button" aria-label="Details" title="Details" aria-pressed={detailsOpen} onClick={onDetails}><Icon name="info" /></button>
    </header>
  );
}

function TypingLine({ session }: { session: Session }): JSX.Element {
  const typing = useObservable(session.typing);
  const who = typing.length > 2 ? "Several people are" : typing.length === 2 ? `${typing[0]} and ${typing[1]} are` : `${typing[0]} is`;
  return <p class="typing-line" aria-live="polite">{typing.length > 0 && <><span class="dots" aria-hidden="true"><i /><i /><i /></span>{who} typing…</>}</p>;
}

/** The log: stays at its end while it is there, and keeps its place while older messages come in above. */
function Log({ session, messages, live, sinceSeq, render }: {
  session: Session;
  messages: readonly Message[];
  live: boolean;
  sinceSeq: number | undefined;
  render: (m: Message, before: Message | undefined) => JSX.Element;
}): JSX.Element {
  const box = useRef<HTMLDivElement>(null);
  const atEnd = useRef(true);
  const was = useRef({ first: "", height: 0 });
  const loading = useRef(false);
  const [more, setMore] = useState(true);
  const [below, setBelow] = useState(0);
  const first = messages[0];
  const last = messages.at(-1);
  const lastSeen = useRef(last?.messageId);

  const read = (): void => {
    if (atEnd.current && document.visibilityState === "visible") session.markRead();
  };
  const older = (): void => {
    if (loading.current || !more) return;
    loading.current = true;
    session.loadOlder(50).then(setMore, () => {}).finally(() => (loading.current = false));
  };
  const toEnd = (): void => {
    const el = box.current!;
    el.scrollTop = el.scrollHeight;
    atEnd.current = true;
    setBelow(0);
    read();
  };
  useLayoutEffect(() => {
    const el = box.current!;
    const firstId = first?.messageId ?? "";
    if (atEnd.current) el.scrollTop = el.scrollHeight;
    else if (firstId !== was.current.first && was.current.first) el.scrollTop += el.scrollHeight - was.current.height;
    was.current = { first: firstId, height: el.scrollHeight };
  }, [messages]);
  useEffect(() => {
    if (last?.status === "pending") toEnd(); // one's own
    else if (!atEnd.current) {
      const since = messages.findLastIndex((m) => m.messageId === lastSeen.current);
      const added = messages.slice(since + 1).filter((m) => m.type !== "recall").length;
      setBelow((n) => n + added);
    }
    lastSeen.current = last?.messageId;
    read();
  }, [last?.messageId]);
  useEffect(() => {
    // Not even a screenful: there may be more.
    const el = box.current!;
    if (live && more && el.scrollHeight <= el.clientHeight + nearPx) older();
  }, [live, more, messages.length]);
  useEffect(() => {
    const el = box.current!;
    const grown = new ResizeObserver(() => atEnd.current && (el.scrollTop = el.scrollHeight));
    grown.observe(el);
    document.addEventListener("visibilitychange", read);
    addEventListener("focus", read);
    return () => {
      grown.disconnect();
      document.removeEventListener("visibilitychange", read);
      removeEventListener("focus", read);
    };
  }, []);
  const onScroll = (): void => {
    const el = box.current!;
    atEnd.current = el.scrollHeight - el.scrollTop - el.clientHeight < nearPx;
    if (atEnd.current) {
      setBelow(0);
      read();
    }
    if (el.scrollTop < 400) older();
  };

  const items: JSX.Element[] = [];
  let before: Message | undefined;
  let isNew = false;
  for (const m of messages) {
    if (m.type === "recall") continue;
    const day = dayOf(m.createdAt);
    if (!before || dayOf(before.createdAt) !== day) {
      items.push(<p key={`day-${m.messageId || m.seq}`} class="day"><span>{day}</span></p>);
      before = undefined;
    }
    if (!isNew && sinceSeq && m.seq > sinceSeq && before) {
      items.push(<p key="new" class="day new"><span>New</span></p>);
      before = undefined;
    }
    if (sinceSeq && (m.seq > sinceSeq || m.seq === 0)) isNew = true;
    items.push(render(m, before));
    before = m;
  }
  return (
    <div class="log-box">
      <div ref={box} class="log" role="log" aria-label="Messages" tabIndex={0} onScroll={onScroll}>
        {more && first && first.seq > 1 && <p class="muted center">Loading older messages…</p>}
        {items}
        {items.length === 0 && <p class="muted center">{live ? "No messages yet. Say something." : ""}</p>}
      </div>
      {below > 0 && (
        <button type="button" class="to-end" onClick={toEnd}><Icon name="down" />{below} new</button>
      )}
    </div>
  );
}

const links = /(https?:\/\/[^\s<>"']+[^\s<>"'.,;:!?)\]])/g;

function Text({ body }: { body: string }): JSX.Element {
  return <p class="body" dir="auto">{body.split(links).map((part, i) => i % 2 === 0 ? part : <a href={part} target="_blank" rel="noopener noreferrer nofollow">{part}</a>)}</p>;
}

interface EntryProps {
  m: Message;
  me: string;
  /** Only for when to make it anew: what may be done with a message depends on it. */
  isAdmin: boolean;
  follows: boolean;
  inGroup: boolean;
  answered: Message | null | undefined;
  read: string;
  actions: (m: Message) => MenuItem[];
}

const Entry = memo(function Entry({ m, me, follows, inGroup, answered, read, actions }: EntryProps): JSX.Element {
  const notice = noticeOf(m, me);
  if (notice !== undefined) return <p class="notice" title={exactly(m.createdAt)}>{notice}</p>;
  const own = m.senderId === me || m.status !== "sent";
  const items = actions(m);
  const label = m.status === "pending" ? "Sending" : m.status === "failed" ? `Not sent: ${m.failure ? explain(m.failure) : ""}` : read === "all" ? "Read" : read ? `Sent, read by ${read}` : "Sent";
  const state = m.status === "sent" ? (read === "all" ? "read" : "sent") : m.status;
  return (
    <article class={`entry${own ? " own" : ""}${follows ? " follows" : ""}${m.status === "failed" ? " failed" : ""}`} data-seq={m.seq}>
      {!own && inGroup && !follows && <Avatar name={m.senderId} small />}
      <div class="bubble">
        <span class={inGroup && !own && !follows ? `sender hue-${hue(m.senderId)}` : "sr"}><bdi>{own ? "You" : m.senderId}</bdi><span class="sr">: </span></span>
        {answered !== undefined && (
          <blockquote><b><bdi>{answered ? (answered.senderId === me ? "You" : answered.senderId) : ""}</bdi></b> <bdi>{answered ? summary(answered, me) : "An older message"}</bdi></blockquote>
        )}
        {m.isDeleted ? <p class="body recalled">Message recalled</p>
          : m.content?.kind === "text" ? <Text body={m.content.body} />
          : m.content?.kind === "attachment" ? <p class="body"><a href={/^https?:/.test(m.content.url) ? m.content.url : undefined} target="_blank" rel="noopener noreferrer nofollow">{m.content.name || "Attachment"}</a> {m.content.caption}</p>
          : <p class="body">{summary(m, me)}</p>}
        <span class="meta">
          <time dateTime={m.createdAt.toISOString()} title={exactly(m.createdAt)}>{timeOf(m.createdAt)}</time>
          {own && !m.isDeleted && <Ticks state={state} label={label} />}
        </span>
        {m.status === "failed" && <p class="why">{label}</p>}
      </div>
      {items.length > 0 && <Menu label="Message actions" class="actions" items={items} />}
    </article>
  );
}, (a, b) => a.m === b.m && a.me === b.me && a.isAdmin === b.isAdmin && a.follows === b.follows && a.inGroup === b.inGroup && a.answered === b.answered && a.read === b.read);

function Readers({ session, seq, onClose }: { session: Session; seq: number; onClose: () => void }): JSX.Element {
  const { value, error } = usePromise(() => session.readers(seq), [session, seq]);
  return (
    <Dialog title="Read by" onClose={onClose}>
      {error && <ErrorText text={error} />}
      {!value && !error && <p class="muted">Loading…</p>}
      {value?.length === 0 && <p class="muted">Nobody yet.</p>}
      <ul class="people">{value?.map((user) => <li key={user}><Avatar name={user} small /><span class="grow">{user}</span></li>)}</ul>
    </Dialog>
  );
}
