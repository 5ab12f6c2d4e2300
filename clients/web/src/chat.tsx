import { IndexedDbStore, ParleyClient } from "@parley-im/client";
import { render, type JSX } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import { forgetDrafts } from "./composer.js";
import { claimsOf, loadSettings, loginFromLink, savedLogin, saveLogin, tokens, type Login, type Settings } from "./login.js";
import { Room } from "./room.js";
import { SignIn } from "./signin.js";
import { applyTheme } from "./theme.js";

const page = "chat";

/** What a login is kept under in this browser. */
function storeName(login: Login): string {
  const who = login.kind === "dev" ? login : claimsOf(login.token);
  return `parley-${who?.userId ?? ""}-${who?.deviceId ?? ""}`;
}

function App({ settings }: { settings: Settings }): JSX.Element {
  const [login, setLogin] = useState<Login | undefined>(() => {
    const given = loginFromLink();
    if (given) saveLogin(page, given);
    return given ?? savedLogin(page);
  });
  const [error, setError] = useState("");
  const enter = (next: Login): void => {
    saveLogin(page, next);
    setError("");
    setLogin(next);
  };
  const leave = async (why: string, client: ParleyClient, name: string): Promise<void> => {
    saveLogin(page, undefined);
    // A device that nobody can come back to would count against the user's.
    if (login?.kind === "dev") await client.devices().then((all) => {
      const own = all.find((d) => d.isCurrent);
      return own && client.revokeDevice(own.deviceId);
    }).catch(() => {});
    await client.stop();
    indexedDB.deleteDatabase(name);
    forgetDrafts();
    history.replaceState(null, "");
    setError(why);
    setLogin(undefined);
  };
  if (!login) return <SignIn logins={settings.logins} prefix="web" what="Chat on this server." error={error} onLogin={enter} />;
  return <Signed key={JSON.stringify(login)} login={login} canAdd={login.kind === "dev"} onLeave={leave} />;
}

function Signed(props: {
  login: Login;
  canAdd: boolean;
  onLeave: (why: string, client: ParleyClient, name: string) => Promise<void>;
}): JSX.Element {
  const { login } = props;
  const name = storeName(login);
  const client = useMemo(() => new ParleyClient({
    baseUrl: location.origin,
    token: tokens(login),
    store: new IndexedDbStore(name),
    onError: (error) => console.warn(`parley: ${error.reason}: ${error.message}`),
  }), []);
  useEffect(() => {
    client.start();
    return () => void client.stop();
  }, []);
  return <Room client={client} device={name} canAdd={props.canAdd} onLeave={(why) => void props.onLeave(why, client, name)} />;
}

applyTheme();
const root = document.getElementById("app")!;
void loadSettings().catch((): Settings => ({ logins: [] })).then((settings) => {
  root.textContent = "";
  render(<App settings={settings} />, root);
});
// A link with a login that is opened in this tab while the page is there.
addEventListener("hashchange", () => {
  if (location.hash.length > 1) location.reload();
});
