import type { Connection, ParleyClient, SessionInfo } from "@parley-im/client";
import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { Conversation } from "./conversation.js";
import { Details } from "./details.js";
import { NewChat } from "./newchat.js";
import { useObservable } from "./observe.js";
import { useOpen } from "./opened.js";
import { Avatar, Icon, Logo, Menu, Ticks } from "./parts.js";
import { SettingsDialog } from "./settings.js";
import { noticeOf, shortTime, summary, titleOf } from "./format.js";

/** The whole chat page of one who is signed in; `device` names whose it is and which device. */
export function Room({ client, device, canAdd, onLeave }: { client: ParleyClient; device: string; canAdd: boolean; onLeave: (why: string) => void }): JSX.Element {
  const connection = useObservable(client.connection);
  const sessions = useObservable(client.sessions);
  const unread = sessions.reduce((n, s) => n + (s.notificationsMuted ? 0 : s.unread), 0);
  const me = useObservable(client.me)?.userId ?? "";
  const [open, setOpen] = useOpen(device);
  const [details, setDetails] = useState(false);
  const [dialog, setDialog] = useState<"new" | "settings">();
  const [watched, setWatched] = useState<readonly string[]>([]);

  useEffect(() => void (document.title = unread > 0 ? `(${unread}) Parley` : "Parley"), [unread]);
  useEffect(() => {
    const peers = sessions.filter((s) => s.kind === "direct").map((s) => s.peerUserId);
    client.watchPresence([...new Set([...watched, ...(open?.peer ? [open.peer] : []), ...peers])].slice(0, 200));
  }, [sessions, watched, open?.peer]);
  useEffect(() => {
    const failed = connection.error;
    if (failed && !failed.retryable && /^(TOKEN|NO_TOKEN|DEVICE_REVOKED|USER_DEACTIVATED)/.test(failed.reason)) {
      onLeave(failed.reason === "DEVICE_REVOKED" ? "This device was signed out." : `Signed out: ${failed.message}.`);
    }
  }, [connection]);
  const show = setOpen;
  useEffect(() => {
    setWatched([]);
    if (!open) setDetails(false);
  }, [open?.sessionId]);
  useFocusKept(open?.sessionId, details);

  const menu = [
    { label: "Settings", run: () => setDialog("settings") },
    ...(canAdd ? [{ label: "Open as second device", run: () => void window.open(`/#as=${encodeURIComponent(me)}`, "_blank", "noopener") }] : []),
    { label: "Inspector", run: () => void window.open(canAdd ? `/inspect#as=${encodeURIComponent(me)}` : "/inspect", "_blank", "noopener") },
    { label: "API reference", run: () => void window.open("/docs", "_blank", "noopener") },
    { label: "Sign out", run: () => onLeave(""), danger: true },
  ];
  const current = open && sessions.find((s) => s.sessionId === open.sessionId);
  return (
    <div class={`room${open ? " has-open" : ""}${details && open ? " has-details" : ""}`}>
      <Banner connection={connection} client={client} />
      <aside class="side" aria-label="Conversations">
        <header class="bar">
          <Avatar name={me || "?"} online={connection.state === "live"} />
          <p class="name grow">{me || "…"}</p>
          <button type="button" class="icon-button" aria-label="New conversation" title="New conversation" onClick={() => setDialog("new")}>
            <Icon name="plus" />
          </button>
          <Menu label="Menu" icon="gear" items={menu} />
        </header>
        <SessionList client={client} sessions={sessions} me={me} open={open?.sessionId} loading={connection.state !== "live"}
          onOpen={(s) => show({ sessionId: s.sessionId })} onNew={() => setDialog("new")} />
      </aside>
      <main class="main">
        <h1 class="sr">Parley: {me}</h1>
        <div class="talk">
        {open ? (
          <Conversation key={open.sessionId} client={client} sessionId={open.sessionId} peer={open.peer} me={me} onBack={() => show(undefined)}
            detailsOpen={details} onDetails={() => setDetails(!details)} />
        ) : (
          <div class="empty">
            <Logo />
            <p>{sessions.length > 0 ? "Pick a conversation, or start a new one." : "It is quiet here. Write to somebody, or make a group."}</p>
            <button type="button" class="button" onClick={() => setDialog("new")}>New conversation</button>
          </div>
        )}
        </div>
      {details && open && (
        <Details key={`d-${open.sessionId}`} client={client} info={current} sessionId={open.sessionId} peer={open.peer} me={me}
          onClose={() => setDetails(false)} onGone={() => show(undefined)} onMembers={setWatched}
          onWrite={async (user) => show({ sessionId: (await client.direct(user)).sessionId, peer: user })} />
      )}
      </main>
      {dialog === "new" && <NewChat client={client} me={me} onClose={() => setDialog(undefined)} onOpen={(next) => {
        setDialog(undefined);
        show(next);
      }} />}
      {dialog === "settings" && <SettingsDialog client={client} onClose={() => setDialog(undefined)} />}
    </div>
  );
}

/** Moves the focus to what is shown when what had it is shown no more, for those who have no pointer. */
function useFocusKept(sessionId: string | undefined, details: boolean): void {
  const was = useRef({ sessionId, details });
  useEffect(() => {
    const before = was.current;
    was.current = { sessionId, details };
    if (before.sessionId === sessionId && before.details === details) return;
    if ((document.activeElement as HTMLElement | null)?.offsetParent) return; // null: nothing has it, or it is hidden
    const first = (...found: string[]): void => found.map((s) => document.querySelector<HTMLElement>(s)).find((el) => el?.offsetParent)?.focus();
    if (details && sessionId) first(".details [aria-label='Close details']");
    else if (sessionId) first(before.details ? "[aria-label='Details']" : ".conversation h2");
    else first(`[data-session="${before.sessionId}"]`, "[aria-label='New conversation']");
  }, [sessionId, details]);
}

function Banner({ connection, client }: { connection: Connection; client: ParleyClient }): JSX.Element {
  const { state, error } = connection;
  const [late, setLate] = useState(false);
  useEffect(() => { // the first connecting is no news, and neither is a blink
    setLate(false);
    if (state !== "connecting") return;
    const timer = setTimeout(() => setLate(true), error ? 300 : 2500);
    return () => clearTimeout(timer);
  }, [state, error === undefined]);
  const displaced = error?.reason === "STREAM_DISPLACED";
  const text =
    state === "live" ? ""
    : displaced ? "This device is open in another tab."
    : state === "offline" ? (error?.retryable ? "You are offline. What you write is sent when you are back." : error ? `Disconnected: ${error.message}` : "")
    : late ? "Reconnecting… what you write is sent then." : "";
  return (
    <div class="banner" role="status">
      {text && (
        <p>
          {state === "connecting" && <span class="spinner" aria-hidden="true" />}
          {text}
          {state === "offline" && error && !error.retryable && (
            <button type="button" class="link" onClick={() => client.start()}>{displaced ? "Use it here" : "Connect again"}</button>
          )}
        </p>
      )}
    </div>
  );
}

function SessionList(props: {
  client: ParleyClient;
  sessions: readonly SessionInfo[];
  me: string;
  open: string | undefined;
  loading: boolean;
  onOpen: (s: SessionInfo) => void;
  onNew: () => void;
}): JSX.Element {
  const [filter, setFilter] = useState("");
  const [archived, setArchived] = useState(false);
  const list = useRef<HTMLUListElement>(null);
  const wanted = filter.trim().toLowerCase();
  const hidden = props.sessions.filter((s) => s.isArchived).length;
  const shown = props.sessions.filter((s) => (wanted ? titleOf(s).toLowerCase().includes(wanted) : s.isArchived === archived));
  const keys = (e: KeyboardEvent): void => {
    const step = e.key === "ArrowDown" ? 1 : e.key === "ArrowUp" ? -1 : 0;
    if (step === 0) return;
    const all = [...list.current!.querySelectorAll<HTMLElement>("button.session")];
    const to = all[all.indexOf(document.activeElement as HTMLElement) + step];
    if (!to) return;
    e.preventDefault();
    to.focus();
  };
  return (
    <>
      <div class="search">
        <Icon name="search" />
        <input type="search" aria-label="Find a conversation" placeholder="Find a conversation" value={filter} onInput={(e) => setFilter(e.currentTarget.value)} />
      </div>
      <nav class="sessions" aria-label={archived ? "Archived conversations" : "Conversations"}>
        <ul ref={list} onKeyDown={keys}>
          {shown.map((s) => <SessionItem key={s.sessionId} {...props} info={s} current={s.sessionId === props.open} />)}
        </ul>
        {shown.length === 0 && (
          <p class="muted center">
            {wanted ? "Nothing found." : archived ? "Nothing archived." : props.loading ? "Loading…" : "No conversations yet."}
          </p>
        )}
        {(hidden > 0 || archived) && !wanted && (
          <button type="button" class="link center" onClick={() => setArchived(!archived)}>{archived ? "Back to all" : `Archived (${hidden})`}</button>
        )}
      </nav>
    </>
  );
}

function SessionItem({ client, info, me, current, onOpen }: {
  client: ParleyClient;
  info: SessionInfo;
  me: string;
  current: boolean;
  onOpen: (s: SessionInfo) => void;
}): JSX.Element {
  const title = titleOf(info);
  const presence = useObservable(client.presence(info.peerUserId));
  const typing = useObservable(client.session(info.sessionId).typing);
  const live = useObservable(client.connection).state === "live";
  const online = live && info.kind === "direct" && presence?.isOnline;
  const end = useObservable(client.session(info.sessionId).messages).at(-1);
  const waiting = end && end.status !== "sent" ? end : undefined; // what was written last, and is not in the log yet
  const last = waiting ?? info.lastMessage;
  const isOwn = waiting !== undefined || last?.senderId === me;
  const says = last && !last.isDeleted && last.type !== "recall" && noticeOf(last, me) === undefined;
  const from = says && (isOwn || info.kind === "group") ? (isOwn ? "You" : last.senderId) : "";
  const unread = info.unread > 0 || info.markedUnread;
  return (
    <li>
      <button type="button" data-session={info.sessionId} class={`session${unread ? " unread" : ""}${info.notificationsMuted ? " is-muted" : ""}`} aria-current={current ? "true" : undefined} onClick={() => onOpen(info)}>
        <Avatar name={title} online={online} />
        <span class="grow">
          <span class="line">
            <span class="title" dir="auto">{title}</span>
            {online && <span class="sr">, online</span>}
            {info.isPinned && <span class="mark" title="Pinned"><Icon name="pin" /><span class="sr">pinned</span></span>}
            {info.notificationsMuted && <span class="mark" title="Muted"><Icon name="bell" /><span class="sr">muted</span></span>}
            {last && <time dateTime={last.createdAt.toISOString()}>{shortTime(last.createdAt)}</time>}
          </span>
          <span class="line">
            {waiting && <Ticks state={waiting.status} label={waiting.status === "failed" ? "Not sent" : "Sending"} />}
            {typing.length > 0 ? <span class="last typing">typing…</span>
              : <span class="last" dir="auto">{from && <><bdi>{from}</bdi>: </>}{last && summary(last, me)}</span>}
            {unread && (
              <span class="badge">{info.unread > 0 ? (info.unread > 99 ? "99+" : info.unread) : ""}<span class="sr"> unread</span></span>
            )}
          </span>
        </span>
      </button>
    </li>
  );
}
