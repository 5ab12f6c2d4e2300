import { createConnectTransport } from "@connectrpc/connect-web";
import { ParleyClient, type SessionInfo } from "@parley-im/client";
import { render, type JSX } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import { titleOf } from "./format.js";
import { loadSettings, loginFromLink, savedLogin, saveLogin, tokens, type Login, type Settings } from "./login.js";
import { useObservable, useTick } from "./observe.js";
import { ErrorText, explain } from "./parts.js";
import { SignIn } from "./signin.js";
import { applyTheme } from "./theme.js";
import { bounds, histogram, kinds, quantile, Wire, type Line } from "./wire.js";

const page = "inspect";
/** How much of the past the picture shows, in milliseconds. */
const spanMs = 60_000;
const maxLanes = 8;
const maxRows = 300;

function App({ settings }: { settings: Settings }): JSX.Element {
  const [login, setLogin] = useState<Login | undefined>(() => loginFromLink("inspect") ?? savedLogin(page));
  useEffect(() => saveLogin(page, login), [login]);
  if (!login) {
    return <SignIn logins={settings.logins} prefix="inspect" what="See everything that a stream carries. The inspector is a device of its own." onLogin={setLogin} />;
  }
  return <Inspector key={JSON.stringify(login)} login={login} onLeave={() => setLogin(undefined)} />;
}

function Inspector({ login, onLeave }: { login: Login; onLeave: () => void }): JSX.Element {
  const wire = useMemo(() => new Wire(), []);
  const client = useMemo(() => new ParleyClient({
    baseUrl: location.origin,
    token: tokens(login),
    transport: createConnectTransport({ baseUrl: location.origin, useBinaryFormat: true, interceptors: [wire.interceptor] }),
    maxBacklog: 200,
  }), []);
  useEffect(() => {
    wire.connection(client.connection.value.state);
    const end = client.connection.subscribe(({ state }) => wire.connection(state));
    client.start();
    return () => {
      end();
      void client.stop();
    };
  }, []);
  const connection = useObservable(client.connection);
  const sessions = useObservable(client.sessions);
  useEffect(() => { // presence is told of whom one asks for
    client.watchPresence(sessions.filter((s) => s.kind === "direct").map((s) => s.peerUserId).slice(0, 200));
  }, [sessions]);
  const me = useObservable(client.me);
  const [paused, setPaused] = useState(false);
  const [frozen, setFrozen] = useState<{ at: number; lines: Line[] }>();
  useTick(500);
  const now = frozen?.at ?? Date.now();
  const lines = frozen?.lines ?? wire.lines;
  const recent = lines.filter((l) => l.at > now - spanMs);
  const rate = recent.filter((l) => l.way === "down" && l.at > now - 10_000).length / 10;
  const pause = (): void => {
    setFrozen(paused ? undefined : { at: Date.now(), lines: [...wire.lines] });
    setPaused(!paused);
  };
  return (
    <div class="inspect">
      <header class="bar">
        <h1 class="grow">Inspector <span class="muted">{me ? `${me.userId} / ${me.deviceId}` : ""}</span></h1>
        <span class={`chip ${connection.state}`} role="status">{connection.state}</span>
        <button type="button" class="button quiet" aria-pressed={paused} onClick={pause}>{paused ? "Go on" : "Pause"}</button>
        <button type="button" class="button quiet" onClick={() => wire.clear()}>Clear</button>
        <button type="button" class="button quiet" onClick={() => void client.stop().then(() => client.start())}>Reconnect</button>
        <button type="button" class="button quiet" onClick={onLeave}>Sign out</button>
      </header>
      <main>
        {connection.error && connection.state !== "live" && <ErrorText text={explain(connection.error)} />}
        <dl class="figures">
          <Figure name="Events" value={String(wire.events)} />
          <Figure name="Events per second" value={rate.toFixed(1)} />
          <Figure name="Streams opened" value={String(wire.streams)} />
          <Figure name="Commit to here, p50 / p99" value={spread(wire.delivery)} />
          <Figure name="Calls, p50 / p99" value={spread(wire.calls)} />
        </dl>
        <Timeline lines={recent} now={now} sessions={sessions} states={wire.states} />
        <div class="charts">
          <Histogram title="From commit to here" note="by the server's clock and this one's" values={wire.delivery} />
          <Histogram title="Calls, there and back" note="acks, reads, lists" values={wire.calls} />
          <Cursors wire={wire} sessions={sessions} />
        </div>
        <Rows lines={lines} sessions={sessions} />
      </main>
    </div>
  );
}

const ms = (n: number | undefined): string => (n === undefined ? "–" : n < 10 ? `${n.toFixed(1)} ms` : `${Math.round(n)} ms`);
const spread = (values: readonly number[]): string => `${ms(quantile(values, 0.5))} / ${ms(quantile(values, 0.99))}`;

function Figure({ name, value }: { name: string; value: string }): JSX.Element {
  return <div><dt>{name}</dt><dd>{value}</dd></div>;
}

function nameOf(sessionId: string | undefined, sessions: readonly SessionInfo[]): string {
  if (!sessionId) return "";
  const info = sessions.find((s) => s.sessionId === sessionId);
  return info ? titleOf(info) : sessionId.slice(0, 8);
}

/** Lanes over the last minute: the stream itself on what the connection was, each session, the calls. */
function Timeline({ lines, now, sessions, states }: {
  lines: readonly Line[];
  now: number;
  sessions: readonly SessionInfo[];
  states: Wire["states"];
}): JSX.Element {
  const active = [...new Set(lines.filter((l) => l.way === "down" && l.sessionId).map((l) => l.sessionId as string))].slice(-maxLanes);
  const lanes = ["stream", ...active, "calls"];
  const laneOf = (l: Line): number => {
    if (l.way === "up") return lanes.length - 1;
    return Math.max(0, l.sessionId ? lanes.indexOf(l.sessionId) : 0);
  };
  // As wide as there is room, so that letters keep their size on a phone; the page is rendered twice a second anyway.
  const width = Math.min(1000, Math.max(300, document.documentElement.clientWidth - 66));
  const narrow = width < 600;
  const [left, high] = [narrow ? 80 : 130, 30];
  const x = (at: number): number => left + (width - left - 12) * (1 - (now - at) / spanMs);
  const height = lanes.length * high + 24;
  return (
    <figure class="panel">
      <figcaption>The last minute</figcaption>
      <svg viewBox={`0 0 ${width} ${height}`} role="img" aria-label={`${lines.length} events and calls in the last minute, in ${active.length} sessions`}>
        {lanes.map((lane, i) => (
          <g key={lane}>
            <line class="lane" x1={left} x2={width} y1={i * high + high / 2 + 4} y2={i * high + high / 2 + 4} />
            <text x={0} y={i * high + high / 2 + 8}>{(i === 0 || i === lanes.length - 1 ? lane : nameOf(lane, sessions)).slice(0, narrow ? 9 : 16)}</text>
          </g>
        ))}
        {states.map(({ at, state }, i) => {
          const [from, to] = [Math.max(at, now - spanMs), Math.min(states[i + 1]?.at ?? now, now)];
          return to > from && (
            <line key={at} class={`was-${state}`} x1={x(from)} x2={x(to)} y1={high / 2 + 4} y2={high / 2 + 4}><title>{state}</title></line>
          );
        })}
        {(narrow ? [0, 20, 40] : [0, 15, 30, 45, 60]).map((s) => <text key={s} class="tick" x={x(now - s * 1000)} y={height - 4} text-anchor="middle">{s === 0 ? "now" : `−${s} s`}</text>)}
        {lines.map((l) => {
          const [cx, cy] = [x(l.at), laneOf(l) * high + high / 2 + 4];
          return l.way === "up"
            ? <path key={l.n} class={`mark k-${l.failed ? "failed" : l.kind === "Ack" ? "ack" : "call"}`} d={`M${cx - 4} ${cy + 5}L${cx} ${cy - 5}L${cx + 4} ${cy + 5}z`}><title>{`${l.kind} ${l.detail} ${ms(l.ms)}`}</title></path>
            : <circle key={l.n} class={`mark k-${l.failed ? "failed" : l.kind}`} cx={cx} cy={cy} r={l.kind === "heartbeat" ? 3 : 5.5}><title>{`${l.kind} ${l.seq ?? ""} ${l.detail}`}</title></circle>;
        })}
      </svg>
      <ul class="legend">
        {kinds.map((k) => <li key={k}><span class={`swatch k-${k}`} />{k}</li>)}
        <li><span class="swatch k-end" />resync, end, failure</li>
        <li><span class="swatch k-ack" />ack</li><li><span class="swatch k-call" />other call</li>
        {["live", "connecting", "offline"].map((s) => <li key={s}><span class={`swatch band was-${s}`} />{s}</li>)}
      </ul>
    </figure>
  );
}

function Histogram({ title, note, values }: { title: string; note: string; values: readonly number[] }): JSX.Element {
  const bars = histogram(values);
  const top = Math.max(1, ...bars);
  const label = (i: number): string => (bounds[i] === Infinity ? ">1 s" : (bounds[i] ?? 0) >= 1000 ? "1 s" : String(bounds[i]));
  return (
    <figure class="panel">
      <figcaption>{title} <span class="muted">{note}</span></figcaption>
      <svg viewBox="0 0 330 150" role="img" aria-label={`${title}: ${values.length} values, median ${ms(quantile(values, 0.5))}, 99 in 100 within ${ms(quantile(values, 0.99))}`}>
        {bars.map((n, i) => (
          <g key={i}>
            <rect class="bar-fill" x={i * 30 + 3} y={124 - (n / top) * 104} width={24} height={Math.max((n / top) * 104, n > 0 ? 2 : 0)} rx={3} />
            {n > 0 && <text class="tick" x={i * 30 + 15} y={118 - (n / top) * 104} text-anchor="middle">{n}</text>}
            <text class="tick" x={i * 30 + 15} y={142} text-anchor="middle">{label(i)}</text>
          </g>
        ))}
      </svg>
      <p class="hint">Milliseconds; each bar is up to its number. {values.length} values.</p>
    </figure>
  );
}

function Cursors({ wire, sessions }: { wire: Wire; sessions: readonly SessionInfo[] }): JSX.Element {
  const shown = sessions.slice(0, maxLanes);
  return (
    <section class="panel cursors" aria-label="Cursors">
      <h2>Cursors</h2>
      <table>
        <thead><tr><th scope="col">Session</th><th scope="col">head</th><th scope="col">seen</th><th scope="col">acked</th><th scope="col">read</th></tr></thead>
        <tbody>
          {shown.map((s) => {
            const at = wire.positions.get(s.sessionId);
            return (
              <tr key={s.sessionId}>
                <th scope="row">{titleOf(s)}</th><td>{s.headSeq}</td><td>{at?.shown || "–"}</td><td>{at?.acked || "–"}</td>
                <td><meter min={0} max={Math.max(s.headSeq, 1)} value={s.readSeq} aria-label={`${titleOf(s)}: read ${s.readSeq} of ${s.headSeq}`} /> {s.readSeq}</td>
              </tr>
            );
          })}
        </tbody>
      </table>
      {shown.length === 0 && <p class="hint">No sessions yet: write to this user.</p>}
      {sessions.length > shown.length && <p class="hint">and {sessions.length - shown.length} more</p>}
    </section>
  );
}

function Rows({ lines, sessions }: { lines: readonly Line[]; sessions: readonly SessionInfo[] }): JSX.Element {
  const [kind, setKind] = useState("");
  const there = [...new Set(lines.map((l) => l.kind))].sort();
  const shown = lines.filter((l) => !kind || l.kind === kind).slice(-maxRows).reverse();
  return (
    <section class="panel" aria-label="Everything">
      <div class="row">
        <h2 class="grow">Everything</h2>
        <label for="kind">Only</label>
        <select id="kind" value={kind} onChange={(e) => setKind(e.currentTarget.value)}>
          <option value="">all kinds</option>
          {there.map((k) => <option key={k} value={k}>{k}</option>)}
        </select>
      </div>
      <div class="table" tabIndex={0} role="region" aria-label="Events and calls, newest first">
        <table>
          <thead><tr><th scope="col">Time</th><th scope="col">Kind</th><th scope="col">Session</th><th scope="col">seq</th><th scope="col">ms</th><th scope="col">Detail</th></tr></thead>
          <tbody>
            {shown.map((l) => (
              <tr key={l.n} class={l.failed ? "failed" : ""}>
                <td class="mono">{new Date(l.at).toISOString().slice(11, 23)}</td>
                <td><span class={`swatch k-${l.failed ? "failed" : l.kind === "Ack" ? "ack" : l.way === "up" ? "call" : l.kind}`} /> {l.way === "up" ? "↑ " : "↓ "}{l.kind}</td>
                <td>{nameOf(l.sessionId, sessions)}</td>
                <td class="mono">{l.seq ?? ""}</td>
                <td class="mono">{l.ms === undefined ? "" : l.ms.toFixed(1)}</td>
                <td>{l.detail}</td>
              </tr>
            ))}
          </tbody>
        </table>
        {shown.length === 0 && <p class="hint center">Nothing yet.</p>}
      </div>
    </section>
  );
}

applyTheme();
const root = document.getElementById("app")!;
void loadSettings().catch((): Settings => ({ logins: [] })).then((settings) => {
  root.textContent = "";
  render(<App settings={settings} />, root);
});
