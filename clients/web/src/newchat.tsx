import type { ParleyClient } from "@parley-im/client";
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { idsIn } from "./ids.js";
import { Dialog, ErrorText, useAction } from "./parts.js";
import type { Open } from "./opened.js";

export function NewChat({ client, me, onClose, onOpen }: { client: ParleyClient; me: string; onClose: () => void; onOpen: (open: Open) => void }): JSX.Element {
  const [peer, setPeer] = useState("");
  const [title, setTitle] = useState("");
  const [people, setPeople] = useState("");
  const { busy, error, run } = useAction();
  return (
    <Dialog title="New conversation" onClose={onClose}>
      {error && <ErrorText text={error} />}
      <form class="stack" onSubmit={(e) => {
        e.preventDefault();
        const user = peer.trim();
        if (user) void run(async () => {
          if (user === me) throw new Error("That is you.");
          onOpen({ sessionId: (await client.direct(user)).sessionId, peer: user });
        });
      }}>
        <h3>Message somebody</h3>
        <label for="peer">User id</label>
        <div class="row">
          <input id="peer" autocomplete="off" autocapitalize="none" value={peer} onInput={(e) => setPeer(e.currentTarget.value)} autofocus />
          <button type="submit" class="button" disabled={busy || !peer.trim()}>Open</button>
        </div>
      </form>
      <form class="stack" onSubmit={(e) => {
        e.preventDefault();
        void run(async () => {
          const group = await client.createGroup({ title: title.trim(), memberIds: idsIn(people).filter((id) => id !== me) });
          onOpen({ sessionId: group.sessionId });
        });
      }}>
        <h3>Make a group</h3>
        <label for="group-title">Name of the group</label>
        <input id="group-title" dir="auto" value={title} maxLength={120} onInput={(e) => setTitle(e.currentTarget.value)} />
        <label for="group-people">User ids of its members</label>
        <input id="group-people" autocomplete="off" autocapitalize="none" placeholder="bob, carol" value={people} onInput={(e) => setPeople(e.currentTarget.value)} />
        <button type="submit" class="button" disabled={busy || !title.trim()}>Make the group</button>
      </form>
    </Dialog>
  );
}
