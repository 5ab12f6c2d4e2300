import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { claimsOf, devLogin, type Login } from "./login.js";
import { Avatar, ErrorText, Logo } from "./parts.js";

/** Asks who is there: one of a development server's logins, or a token. */
export function SignIn(props: {
  logins: readonly string[];
  prefix: string;
  what: string;
  error?: string;
  onLogin: (login: Login) => void;
}): JSX.Element {
  const [token, setToken] = useState("");
  const [name, setName] = useState("");
  const [error, setError] = useState(props.error ?? "");
  const dev = props.logins.length > 0;
  return (
    <main class="sign-in">
      <div class="card">
        <Logo />
        <h1>Parley</h1>
        <p class="muted">{props.what}</p>
        {error && <ErrorText text={error} />}
        {dev && (
          <>
            <h2>Sign in as</h2>
            <div class="logins">
              {props.logins.map((user) => (
                <button key={user} type="button" class="login" onClick={() => props.onLogin(devLogin(user, props.prefix))}>
                  <Avatar name={user} />
                  {user}
                </button>
              ))}
            </div>
            <form class="row" onSubmit={(e) => {
              e.preventDefault();
              if (!/^[A-Za-z0-9._-]{1,64}$/.test(name)) return setError("Names are 1 to 64 letters, digits, dots, dashes and underscores.");
              props.onLogin(devLogin(name, props.prefix));
            }}>
              <label class="sr" for="name">Another name</label>
              <input id="name" placeholder="somebody new" autocomplete="off" autocapitalize="none" value={name}
                onInput={(e) => setName(e.currentTarget.value)} />
              <button type="submit" class="button" disabled={!name}>Sign in</button>
            </form>
          </>
        )}
        <details open={!dev}>
          <summary>{dev ? "Use a token instead" : "Sign in with a token"}</summary>
          <form onSubmit={(e) => {
            e.preventDefault();
            const clean = token.trim();
            if (!claimsOf(clean)) return setError("That is no token: it does not say whose it is.");
            props.onLogin({ kind: "token", token: clean });
          }}>
            <label for="token">Token</label>
            <textarea id="token" rows={4} spellcheck={false} autocomplete="off" value={token}
              onInput={(e) => setToken(e.currentTarget.value)} />
            <p class="hint">From your own server, or <code>parley token --user alice --device web</code>. It stays in this tab.</p>
            <button type="submit" class="button" disabled={!token.trim()}>Sign in</button>
          </form>
        </details>
      </div>
    </main>
  );
}
