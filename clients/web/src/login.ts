import type { TokenProvider } from "@parley-im/client";

/**
 * How this tab signs in. Kept for the tab alone, so that each tab is a device of its own: two streams of one device would
 * displace each other.
 */
export type Login =
  /** A development server gives tokens for this user and device. */
  | { readonly kind: "dev"; readonly userId: string; readonly deviceId: string }
  | { readonly kind: "token"; readonly token: string };

const key = "parley.login";

/** What the server tells its pages. */
export interface Settings {
  /** Users that sign in without a token; empty in production. */
  readonly logins: readonly string[];
}

export async function loadSettings(): Promise<Settings> {
  const response = await fetch("/config.json");
  return response.ok ? ((await response.json()) as Settings) : { logins: [] };
}

export function savedLogin(page: string): Login | undefined {
  try {
    return JSON.parse(sessionStorage.getItem(`${key}.${page}`) ?? "null") ?? undefined;
  } catch {
    return undefined;
  }
}

export function saveLogin(page: string, login: Login | undefined): void {
  if (login) sessionStorage.setItem(`${key}.${page}`, JSON.stringify(login));
  else sessionStorage.removeItem(`${key}.${page}`);
}

/** A new device for a user of a development server. */
export function devLogin(userId: string, prefix = "web"): Login {
  const random = crypto.getRandomValues(new Uint32Array(1))[0] ?? 0;
  return { kind: "dev", userId, deviceId: `${prefix}-${random.toString(36).slice(-5)}` };
}

/**
 * The login that the link asks for: #as=alice on a development server, or #token=... . It is taken out of the address at
 * once: what is after # is never sent to a server, and does not stay in the history either.
 */
export function loginFromLink(prefix?: string): Login | undefined {
  const link = new URLSearchParams(location.hash.slice(1));
  if (!link.has("as") && !link.has("token")) return undefined;
  history.replaceState(null, "", location.pathname + location.search);
  const token = link.get("token");
  const user = link.get("as");
  if (token) return { kind: "token", token };
  return user ? devLogin(user, prefix) : undefined;
}

/** Gives tokens for a login. */
export function tokens(login: Login): TokenProvider {
  if (login.kind === "token") return () => Promise.resolve(login.token);
  return async () => {
    const response = await fetch("/dev/token", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ userId: login.userId, deviceId: login.deviceId }),
    });
    if (!response.ok) throw new Error((await response.text()).trim() || `no token: ${response.status}`);
    return ((await response.json()) as { token: string }).token;
  };
}

/** Whose token it is, as far as it says; the server judges it. */
export function claimsOf(token: string): { userId: string; deviceId: string } | undefined {
  try {
    const part = (token.split(".")[1] ?? "").replace(/-/g, "+").replace(/_/g, "/");
    const { sub, did } = JSON.parse(atob(part)) as { sub?: unknown; did?: unknown };
    return typeof sub === "string" && typeof did === "string" ? { userId: sub, deviceId: did } : undefined;
  } catch {
    return undefined;
  }
}
