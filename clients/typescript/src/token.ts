import { ParleyError } from "./errors.js";
import type { Identity } from "./model.js";

/** Gives a token for this device; called again whenever a new one is needed. May be slow, may fail, may be async. */
export type TokenProvider = () => string | Promise<string>;

/** A token is replaced when this share of its life is over, measured from when it came, so that no clock is trusted. */
const useShare = 0.9;

/** Keeps the token: one request to the provider at a time, a new token when the old one is near its end or refused. */
export class Credential {
  #token: string | undefined;
  #freshUntil = 0;
  #asking: Promise<string> | undefined;

  constructor(
    private readonly provider: TokenProvider,
    private readonly now: () => number = () => performance.now(),
  ) {}

  /** A token that is likely good. Fails with NO_TOKEN, or as the provider says by a ParleyError. */
  async get(): Promise<string> {
    if (this.#token !== undefined && this.now() < this.#freshUntil) return this.#token;
    this.#asking ??= this.#ask().finally(() => (this.#asking = undefined));
    return this.#asking;
  }

  /** Notes that a token was refused. */
  reject(token: string): void {
    if (this.#token === token) this.#token = undefined;
  }

  async #ask(): Promise<string> {
    let token: string;
    try {
      token = await this.provider();
    } catch (err) {
      if (err instanceof ParleyError) throw err;
      throw new ParleyError("NO_TOKEN", "the token provider failed", { cause: err });
    }
    if (typeof token !== "string" || token === "") throw new ParleyError("NO_TOKEN", "the token provider gave no token");
    const { iat, exp } = claimsOf(token);
    const lifeMs = typeof iat === "number" && typeof exp === "number" ? (exp - iat) * 1000 : Infinity;
    this.#token = token;
    this.#freshUntil = this.now() + Math.max(lifeMs * useShare, 0);
    return token;
  }
}

/** Who a token speaks for; undefined when it does not say. */
export function identityOf(token: string): Identity | undefined {
  const { sub, did } = claimsOf(token);
  return typeof sub === "string" && typeof did === "string" ? { userId: sub, deviceId: did } : undefined;
}

function claimsOf(token: string): Record<string, unknown> {
  try {
    const part = (token.split(".")[1] ?? "").replace(/-/g, "+").replace(/_/g, "/");
    const bytes = Uint8Array.from(atob(part), (c) => c.charCodeAt(0));
    return JSON.parse(new TextDecoder().decode(bytes)) as Record<string, unknown>;
  } catch {
    return {};
  }
}
