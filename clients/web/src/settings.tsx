import type { ParleyClient } from "@parley-im/client";
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { agoOf } from "./format.js";
import { usePromise } from "./observe.js";
import { Avatar, Dialog, ErrorText, useAction } from "./parts.js";
import { applyTheme, theme, type Theme } from "./theme.js";

export function SettingsDialog({ client, onClose }: { client: ParleyClient; onClose: () => void }): JSX.Element {
  const [round, setRound] = useState(0);
  const again = (): void => setRound((n) => n + 1);
  const devices = usePromise(() => client.devices(), [client, round]);
  const blocked = usePromise(() => client.relations("blocked"), [client, round]);
  const [colours, setColours] = useState<Theme>(theme());
  const { busy, error, run } = useAction();
  const failed = error || devices.error || blocked.error;
  return (
    <Dialog title="Settings" onClose={onClose}>
      {failed && <ErrorText text={failed} />}
      <fieldset class="choice">
        <legend>Colours</legend>
        {(["auto", "light", "dark"] as const).map((t) => (
          <label key={t}>
            <input type="radio" name="theme" checked={colours === t} onChange={() => {
              applyTheme(t);
              setColours(t);
            }} />
            {{ auto: "As the system", light: "Light", dark: "Dark" }[t]}
          </label>
        ))}
      </fieldset>
      <section aria-label="Your devices">
        <h3>Your devices</h3>
        {!devices.value && <p class="muted">Loading…</p>}
        <ul class="people">
          {devices.value?.map((d) => (
            <li key={d.deviceId}>
              <span class="grow">
                {d.displayName || d.deviceId}{d.isCurrent && " (this one)"}
                <span class="sub">{[d.platform !== "unknown" && d.platform, d.lastSeenAt ? `seen ${agoOf(d.lastSeenAt)}` : "not seen yet"].filter(Boolean).join(" · ")}</span>
              </span>
              {!d.isCurrent && (
                <button type="button" class="button quiet" disabled={busy} aria-label={`Sign out ${d.displayName || d.deviceId}`}
                  onClick={() => void run(() => client.revokeDevice(d.deviceId)).then(again)}>Sign out</button>
              )}
            </li>
          ))}
        </ul>
        <p class="hint">A device that is signed out is shut out for good.</p>
      </section>
      <section aria-label="Blocked people">
        <h3>Blocked people</h3>
        {blocked.value?.length === 0 && <p class="muted">Nobody.</p>}
        <ul class="people">
          {blocked.value?.map(({ userId }) => (
            <li key={userId}>
              <Avatar name={userId} small />
              <span class="grow">{userId}</span>
              <button type="button" class="button quiet" disabled={busy} aria-label={`Unblock ${userId}`}
                onClick={() => void run(() => client.unblock(userId)).then(again)}>Unblock</button>
            </li>
          ))}
        </ul>
      </section>
    </Dialog>
  );
}
