import { Code, ConnectError } from "@connectrpc/connect";
import { afterEach, expect, test, vi } from "vitest";
import { ErrorReason } from "../gen/parley/v1/error_reason_pb.js";
import { ParleyError, type ParleyClient } from "../src/index.js";
import { FakeParley, refuse, tokenFor } from "./fake.js";
import { clientOf, until, waitFor } from "./util.js";

const G = "11111111-1111-4111-8111-111111111111";
const running: ParleyClient[] = [];

function start(fake: FakeParley, options = {}): ParleyClient {
  const client = clientOf(fake, "alice", "a1", options);
  running.push(client);
  client.start();
  return client;
}

const live = (c: ParleyClient) => until(c.connection, (s) => s.state === "live");

afterEach(async () => {
  vi.useRealTimers();
  await Promise.all(running.splice(0).map((c) => c.stop()));
});

test("goes through three states, and stop says offline without an error", async () => {
  const client = clientOf(new FakeParley(), "alice", "a1");
  const states: string[] = [];
  client.connection.subscribe((c) => states.push(c.state));
  client.start();
  await live(client);
  await client.stop();
  expect(states).toEqual(["offline", "connecting", "live", "offline"]);
  expect(client.connection.value).toEqual({ state: "offline" });
  client.start();
  await live(client);
  await client.stop();
});

test.each([
  ["STREAM_DISPLACED", Code.FailedPrecondition],
  ["DEVICE_REVOKED", Code.Unauthenticated],
  ["USER_DEACTIVATED", Code.Unauthenticated],
] as const)("%s is terminal until start is called again", async (reason, code) => {
  const fake = new FakeParley();
  const client = start(fake);
  await live(client);
  fake.end(refuse(code, ErrorReason[reason]));
  const { error } = await until(client.connection, (c) => c.state === "offline");
  expect(error).toMatchObject({ reason, retryable: false });
  await new Promise((resolve) => setTimeout(resolve, 30));
  expect(fake.subscribes.length).toBe(1);
  client.start();
  await live(client);
});

test("an error that is not Parley's is retried unless it says that this is the wrong place", async () => {
  const fake = new FakeParley();
  const client = start(fake);
  await live(client);
  // Node's way to say that a stream was cut in the middle of a message.
  fake.end(new ConnectError("protocol error: incomplete envelope", Code.InvalidArgument));
  await waitFor(() => fake.subscribes.length === 2);
  await live(client);
  fake.end(new ConnectError("HTTP 404", Code.Unimplemented));
  expect((await until(client.connection, (c) => c.state === "offline")).error?.reason).toBe("UNREACHABLE");
});

test("an expired token is replaced, once for all calls, and the call repeated", async () => {
  const fake = new FakeParley();
  const good = tokenFor("alice", "a1", { n: 2 });
  let asked = 0;
  fake.gate = (_ctx, token) => {
    if (token !== good) throw refuse(Code.Unauthenticated, ErrorReason.TOKEN_EXPIRED);
  };
  const client = start(fake, { token: () => (asked++ === 0 ? tokenFor("alice", "a1") : good) });
  await live(client);
  expect(asked).toBe(2);
  fake.gate = undefined;
  fake.end(refuse(Code.Unauthenticated, ErrorReason.TOKEN_EXPIRED));
  await waitFor(() => fake.subscribes.length === 2);
  await live(client);
  expect(asked).toBe(3);
});

test("a token that stays invalid is terminal; a provider that fails is asked again", async () => {
  const fake = new FakeParley();
  fake.gate = () => {
    throw refuse(Code.Unauthenticated, ErrorReason.TOKEN_INVALID);
  };
  const client = start(fake);
  expect((await until(client.connection, (c) => c.error?.retryable === false)).error?.reason).toBe("TOKEN_INVALID");
  fake.gate = undefined;
  let asked = 0;
  const other = start(fake, {
    token: () => {
      if (asked++ < 3) throw new Error("the app's own server is away");
      return tokenFor("alice", "a1");
    },
  });
  await live(other);
  const signedOut = start(fake, {
    token: () => {
      throw new ParleyError("NO_TOKEN", "signed out", { retryable: false });
    },
  });
  expect((await until(signedOut.connection, (c) => c.error?.retryable === false)).error?.message).toBe("signed out");
});

test("a token near its end is replaced before it is refused", async () => {
  const fake = new FakeParley();
  let asked = 0;
  const client = start(fake, { token: () => tokenFor("alice", "a1", { n: asked++, iat: 1000, exp: 1000 + (asked > 1 ? 1000 : 0) }) });
  await live(client);
  expect(asked).toBe(2); // the first was over at once
});

test("a silent stream is given up after two heartbeats and a little", async () => {
  const fake = new FakeParley();
  fake.heartbeatMs = 50;
  const client = start(fake);
  await live(client);
  fake.end("hang");
  const { error } = await until(client.connection, (c) => c.error !== undefined);
  expect(error?.reason).toBe("STREAM_SILENT");
  await waitFor(() => fake.subscribes.length >= 2); // on a busy machine another stream may have been given up before
});

test("the server's hint is followed when it is longer than the policy's pause", async () => {
  const fake = new FakeParley();
  const attempts: number[] = [];
  const client = start(fake, { reconnect: { delayMs: (n: number) => (attempts.push(n), 1) } });
  await live(client);
  const at = performance.now();
  fake.end(refuse(Code.Unavailable, ErrorReason.SHUTTING_DOWN, { retry_after_ms: "150" }));
  await waitFor(() => fake.subscribes.length === 2);
  expect(performance.now() - at).toBeGreaterThanOrEqual(149);
  await live(client);
  fake.end();
  await waitFor(() => fake.subscribes.length === 3);
  expect(attempts).toEqual([0, 0]); // being caught up is a success
});

test("another user's token begins with nothing of the former user's", async () => {
  const fake = new FakeParley();
  fake.group(G, "alice", "bob");
  fake.post(G, "bob", "b1", "for alice");
  let user = "alice";
  const client = start(fake, { token: () => tokenFor(user, "a1") });
  await live(client);
  expect(client.session(G).messages.value.length).toBe(1);
  user = "carol";
  fake.end(refuse(Code.Unauthenticated, ErrorReason.TOKEN_EXPIRED));
  await until(client.me, (me) => me?.userId === "carol");
  await live(client);
  expect(client.sessions.value).toEqual([]);
  expect(client.session(G).messages.value).toEqual([]);
});
