import { render, type JSX } from "preact";
import { useState } from "preact/hooks";
import { devLogin, loadSettings, tokens, type Settings } from "./login.js";
import { addressOf, curlOf, entriesOf, exampleOf, resolve, typeOf, type Document, type Entry, type Schema } from "./openapi.js";
import { applyTheme } from "./theme.js";

function Docs({ doc, settings }: { doc: Document; settings: Settings }): JSX.Element {
  const [filter, setFilter] = useState("");
  const [token, setToken] = useState("");
  const [error, setError] = useState("");
  const wanted = filter.trim().toLowerCase();
  const matches = (e: Entry): boolean => `${e.method} ${e.path} ${e.op.operationId} ${e.op.summary ?? ""}`.toLowerCase().includes(wanted);
  const groups = doc.tags.map((tag) => ({ tag, entries: entriesOf(doc, tag.name).filter(matches) })).filter((g) => g.entries.length > 0);
  return (
    <div class="docs">
      <nav aria-label="Operations">
        <div class="search-plain">
          <input type="search" aria-label="Find an operation" placeholder="Find an operation" value={filter} onInput={(e) => setFilter(e.currentTarget.value)} />
        </div>
        {groups.map(({ tag, entries }) => (
          <section key={tag.name} aria-label={tag.name}>
            <h2>{tag.name.replace(/Service$/, "")}</h2>
            <ul>{entries.map((e) => <li key={e.op.operationId}><a href={`#${e.op.operationId}`}>{e.op.operationId.split("_")[1]}</a></li>)}</ul>
          </section>
        ))}
      </nav>
      <main>
        <h1>{doc.info.title}</h1>
        <p class="lead">{doc.info.description}</p>
        <p class="hint">The whole document: <a href="/openapi.json">/openapi.json</a>. Streams are not REST: <code>GET /v1/subscribe</code> is server-sent events, and <a href="/inspect">the inspector</a> shows one.</p>
        <form class="panel stack" aria-label="Token" onSubmit={(e) => e.preventDefault()}>
          <label for="token">Token for trying calls</label>
          <div class="row">
            <input id="token" type="password" autocomplete="off" spellcheck={false} value={token} onInput={(e) => setToken(e.currentTarget.value.trim())} />
            {settings.logins.map((user) => (
              <button key={user} type="button" class="button quiet" onClick={() => {
                Promise.resolve(tokens({ ...devLogin(user), deviceId: "docs" } as never)()).then((t) => {
                  setToken(t);
                  setError("");
                }, (err: unknown) => setError(String(err)));
              }}>{user}</button>
            ))}
          </div>
          {error && <p class="error" role="alert">{error}</p>}
          <p class="hint">Kept in this page's memory alone.</p>
        </form>
        {groups.map(({ tag, entries }) => (
          <section key={tag.name}>
            <h2 class="tag">{tag.name.replace(/Service$/, "")}</h2>
            <p class="muted">{tag.description}</p>
            {entries.map((e) => <Op key={e.op.operationId} doc={doc} entry={e} token={token} />)}
          </section>
        ))}
        {groups.length === 0 && <p class="muted">Nothing found.</p>}
      </main>
    </div>
  );
}

interface Answer {
  readonly status: string;
  readonly ok: boolean;
  readonly ms: number;
  readonly body: string;
}

function Op({ doc, entry, token }: { doc: Document; entry: Entry; token: string }): JSX.Element {
  const { op, method, path } = entry;
  const [open, setOpen] = useState(location.hash === `#${op.operationId}`);
  const answer = op.responses["200"];
  return (
    <details id={op.operationId} class="op" open={open} onToggle={(e) => setOpen(e.currentTarget.open)}>
      <summary><span class={`method m-${method.toLowerCase()}`}>{method}</span> <code>{path}</code> <span class="op-name">{op.operationId.split("_")[1]}</span></summary>
      <div class="op-body">
        <p>{op.summary}</p>
        {op.description && <p>{op.description}</p>}
        {open && (
          <>
            <Fields title="Request" doc={doc} schema={op.requestBody?.content["application/json"]?.schema} />
            <Fields title="Answer" doc={doc} schema={answer?.content?.["application/json"]?.schema} />
            {op.operationId === "SyncService_Subscribe" ? (
              <>
                <ul>{op.parameters?.map((p) => <li key={p.name}><code>{p.name}</code> <span class="muted">{p.in}, optional</span>: {p.description}</li>)}</ul>
                <p class="hint">A stream: see <a href="/inspect">the inspector</a>.</p>
              </>
            ) : <Try doc={doc} entry={entry} token={token} />}
          </>
        )}
      </div>
    </details>
  );
}

function Fields({ title, doc, schema }: { title: string; doc: Document; schema: Schema | undefined }): JSX.Element | null {
  const fields = Object.entries(resolve(doc, schema).properties ?? {});
  if (fields.length === 0) return null;
  return (
    <div class="table" tabIndex={0} role="region" aria-label={`${title}: fields`}>
      <table>
        <thead><tr><th scope="col">{title}</th><th scope="col">Type</th><th scope="col">What it is</th></tr></thead>
        <tbody>{fields.map(([name, s]) => <tr key={name}><th scope="row"><code>{name}</code></th><td>{typeOf(s)}</td><td>{s.description ?? resolve(doc, s).description}</td></tr>)}</tbody>
      </table>
    </div>
  );
}

function Try({ doc, entry, token }: { doc: Document; entry: Entry; token: string }): JSX.Element {
  const { op } = entry;
  const [values, setValues] = useState<Record<string, string>>({});
  const [body, setBody] = useState(() => exampleOf(doc, op));
  const [answer, setAnswer] = useState<Answer>();
  const [error, setError] = useState("");
  const id = (name: string): string => `${op.operationId}-${name}`;
  let curl = "";
  try {
    curl = curlOf(entry, location.origin + addressOf(entry, values), body);
  } catch { /* a parameter is missing still */ }
  const send = async (): Promise<void> => {
    setError("");
    setAnswer(undefined);
    const began = performance.now();
    try {
      const response = await fetch(addressOf(entry, values), {
        method: entry.method,
        headers: { ...(token && { Authorization: `Bearer ${token}` }), ...(body !== undefined && { "Content-Type": "application/json" }) },
        ...(body !== undefined && { body }),
      });
      const text = await response.text();
      setAnswer({ status: `${response.status} ${response.statusText}`, ok: response.ok, ms: performance.now() - began, body: pretty(text) });
    } catch (err) {
      setError(err instanceof Error ? err.message : String(err));
    }
  };
  return (
    <form class="try stack" aria-label={`Try ${op.operationId}`} onSubmit={(e) => {
      e.preventDefault();
      void send();
    }}>
      <h3>Try it</h3>
      {(op.parameters ?? []).map((p) => (
        <div key={p.name} class="stack">
          <label for={id(p.name)}>{p.name} <span class="muted">{p.in}{p.required ? "" : ", optional"}</span></label>
          <input id={id(p.name)} autocomplete="off" value={values[p.name] ?? ""} aria-describedby={id(`${p.name}-d`)}
            onInput={(e) => setValues({ ...values, [p.name]: e.currentTarget.value })} />
          <p id={id(`${p.name}-d`)} class="hint">{p.description}</p>
        </div>
      ))}
      {body !== undefined && (
        <>
          <label for={id("body")}>Body</label>
          <textarea id={id("body")} class="mono" spellcheck={false} rows={Math.min(14, body.split("\n").length + 1)} value={body} onInput={(e) => setBody(e.currentTarget.value)} />
        </>
      )}
      {curl && <pre tabIndex={0} aria-label="As a command">{curl}</pre>}
      <button type="submit" class="button">Send</button>
      <div aria-live="polite">
        {error && <p class="error">{error}</p>}
        {answer && <><p class={answer.ok ? "good" : "bad"}><b>{answer.status}</b> in {answer.ms.toFixed(1)} ms</p><pre tabIndex={0} aria-label="Answer">{answer.body}</pre></>}
      </div>
    </form>
  );
}

function pretty(text: string): string {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

applyTheme();
const root = document.getElementById("app")!;
void Promise.all([
  fetch("/openapi.json").then((r) => r.json() as Promise<Document>),
  loadSettings().catch((): Settings => ({ logins: [] })),
]).then(([doc, settings]) => {
  root.textContent = "";
  render(<Docs doc={doc} settings={settings} />, root);
  document.getElementById(location.hash.slice(1))?.scrollIntoView();
});
addEventListener("hashchange", () => {
  const op = document.getElementById(location.hash.slice(1));
  if (op instanceof HTMLDetailsElement) op.open = true;
});
