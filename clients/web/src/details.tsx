import type { Member, ParleyClient, SessionInfo } from "@parley-im/client";
import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { agoOf, titleOf } from "./format.js";
import { idsIn } from "./ids.js";
import { useObservable, usePromise } from "./observe.js";
import { Avatar, ErrorText, Icon, Menu, useAction, type MenuItem } from "./parts.js";

interface Props {
  readonly client: ParleyClient;
  readonly info: SessionInfo | undefined;
  readonly sessionId: string;
  readonly peer: string | undefined;
  readonly me: string;
  readonly onClose: () => void;
  readonly onGone: () => void;
  /** Says whose presence is shown. */
  readonly onMembers: (ids: readonly string[]) => void;
  readonly onWrite: (user: string) => Promise<void>;
}

/** All about a conversation, and what can be done with it. */
export function Details(props: Props): JSX.Element {
  const { client, info } = props;
  const session = client.session(props.sessionId);
  const title = titleOf(info, props.peer);
  const { busy, error, run } = useAction();
  const toggle = (label: string, on: boolean, set: (on: boolean) => Promise<unknown>): JSX.Element => (
    <label class="switch">
      <span class="grow">{label}</span>
      <input type="checkbox" role="switch" checked={on} disabled={busy} onChange={(e) => void run(() => set(e.currentTarget.checked))} />
    </label>
  );
  return (
    <section class="details" aria-label="Details">
      <header class="bar">
        <h2 class="grow">Details</h2>
        <button type="button" class="icon-button" aria-label="Close details" onClick={props.onClose}><Icon name="close" /></button>
      </header>
      <div class="scroll" tabIndex={0} role="group" aria-label={`About ${title}`}>
        <div class="who"><Avatar name={title} /><h3 dir="auto">{title}</h3></div>
        {error && <ErrorText text={error} />}
        {info && (
          <section aria-label="Your settings">
            {toggle("Pin to the top", info.isPinned, (isPinned) => session.updateOwn({ isPinned }))}
            {toggle("Mute notifications", info.notificationsMuted, (notificationsMuted) => session.updateOwn({ notificationsMuted }))}
            {toggle("Archive", info.isArchived, (isArchived) => session.updateOwn({ isArchived }))}
            <button type="button" class="button quiet" onClick={() => void run(() => session.markUnread()).then((ok) => ok && props.onGone())}>Mark as unread</button>
          </section>
        )}
        {info?.kind === "group" ? <Group {...props} info={info} /> : <Person {...props} user={info?.peerUserId || props.peer || ""} />}
      </div>
    </section>
  );
}

function Person({ client, user }: Props & { user: string }): JSX.Element {
  const [round, setRound] = useState(0);
  const { value } = usePromise(() => client.relations("blocked"), [client, round]);
  const blocked = value?.some((r) => r.userId === user) ?? false;
  const { busy, error, run } = useAction();
  return (
    <section aria-label="Privacy">
      {error && <ErrorText text={error} />}
      {blocked && <p class="muted">You have blocked {user}: neither of you can write to the other.</p>}
      <button type="button" class={`button ${blocked ? "quiet" : "danger"}`} disabled={busy || !value}
        onClick={() => void run(() => (blocked ? client.unblock(user) : client.block(user))).then(() => setRound(round + 1))}>
        {blocked ? `Unblock ${user}` : `Block ${user}`}
      </button>
    </section>
  );
}

const ranks = { member: 0, admin: 1, owner: 2 };

function Group({ client, info, sessionId, me, onGone, onMembers, onWrite }: Props & { info: SessionInfo }): JSX.Element {
  const session = client.session(sessionId);
  const members = useObservable(session.members);
  const live = useObservable(client.connection).state === "live";
  const [title, setTitle] = useState<string>();
  const [people, setPeople] = useState("");
  const { busy, error, run } = useAction();
  const isAdmin = info.isMember && ranks[info.role] >= ranks.admin;
  useEffect(() => void (live && session.loadMembers().catch(() => {})), [live, session]);
  useEffect(() => onMembers(members.map((m) => m.userId)), [members]);
  const sorted = [...members].sort((a, b) => ranks[b.role] - ranks[a.role] || (a.userId < b.userId ? -1 : 1));
  return (
    <>
      {error && <ErrorText text={error} />}
      {isAdmin && (
        <section aria-label="Group settings">
          <form class="stack" onSubmit={(e) => {
            e.preventDefault();
            void run(() => session.update({ title: (title ?? info.title).trim() })).then((ok) => ok && setTitle(undefined));
          }}>
            <label for="rename">Name</label>
            <div class="row">
              <input id="rename" dir="auto" value={title ?? info.title} maxLength={120} onInput={(e) => setTitle(e.currentTarget.value)} />
              <button type="submit" class="button quiet" disabled={busy || title === undefined || !title.trim()}>Save</button>
            </div>
          </form>
          <label class="switch">
            <span class="grow">Only admins write</span>
            <input type="checkbox" role="switch" checked={info.sendRole !== "member"} disabled={busy}
              onChange={(e) => void run(() => session.update({ sendRole: e.currentTarget.checked ? "admin" : "member" }))} />
          </label>
          <label class="switch">
            <span class="grow">New members see the past</span>
            <input type="checkbox" role="switch" checked={info.historyVisible} disabled={busy}
              onChange={(e) => void run(() => session.update({ historyVisible: e.currentTarget.checked }))} />
          </label>
        </section>
      )}
      <section aria-label="Members">
        <h3>{info.memberCount} {info.memberCount === 1 ? "member" : "members"}</h3>
        <ul class="people">
          {sorted.map((m) => <MemberRow key={m.userId} client={client} m={m} me={me} live={live} items={itemsFor(m)} />)}
        </ul>
        {isAdmin && (
          <form class="stack" onSubmit={(e) => {
            e.preventDefault();
            void run(() => session.addMembers(idsIn(people))).then((ok) => ok && setPeople(""));
          }}>
            <label for="add">Add people by user id</label>
            <div class="row">
              <input id="add" autocomplete="off" autocapitalize="none" placeholder="dave" value={people} onInput={(e) => setPeople(e.currentTarget.value)} />
              <button type="submit" class="button quiet" disabled={busy || idsIn(people).length === 0}>Add</button>
            </div>
          </form>
        )}
      </section>
      {info.isMember && (
        <button type="button" class="button danger" disabled={busy} onClick={() => void run(() => session.leave()).then((ok) => ok && onGone())}>Leave the group</button>
      )}
    </>
  );

  function itemsFor(m: Member): MenuItem[] {
    if (m.userId === me) return [];
    const items: MenuItem[] = [{ label: `Write to ${m.userId}`, run: () => void onWrite(m.userId) }];
    if (!isAdmin || (ranks[m.role] >= ranks[info.role] && info.role !== "owner")) return items;
    const set = (label: string, change: { role?: Member["role"]; isMuted?: boolean }): void =>
      void items.push({ label, run: () => void run(async () => {
        await session.setMember(m.userId, change);
        await session.loadMembers();
      }) });
    if (info.role === "owner") {
      if (m.role !== "admin") set("Make an admin", { role: "admin" });
      if (m.role !== "member") set("Make a plain member", { role: "member" });
      if (m.role !== "owner") set("Make an owner", { role: "owner" });
    }
    set(m.isMuted ? "Let write again" : "Mute", { isMuted: !m.isMuted });
    items.push({ label: "Remove from the group", danger: true, run: () => void run(() => session.removeMember(m.userId)) });
    return items;
  }
}

function MemberRow({ client, m, me, live, items }: { client: ParleyClient; m: Member; me: string; live: boolean; items: MenuItem[] }): JSX.Element {
  const known = useObservable(client.presence(m.userId));
  const presence = live ? known : undefined; // without a connection nothing is known of others now
  const state = presence?.isOnline ? "online" : presence?.lastSeenAt ? `last seen ${agoOf(presence.lastSeenAt)}` : "";
  return (
    <li>
      <Avatar name={m.userId} small online={presence?.isOnline} />
      <span class="grow">
        <bdi>{m.displayName || m.userId}</bdi>{m.userId === me && " (you)"}
        <span class="sub">{[m.role !== "member" && m.role, m.isMuted && "muted", state].filter(Boolean).join(" · ")}</span>
      </span>
      {items.length > 0 && <Menu label={`Actions for ${m.userId}`} items={items} />}
    </li>
  );
}
