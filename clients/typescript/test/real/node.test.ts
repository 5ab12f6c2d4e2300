import { IDBFactory, IDBKeyRange } from "fake-indexeddb";
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { afterAll, beforeAll, expect, test } from "vitest";
import { IndexedDbStore } from "../../src/index.js";
import { Device, type DeviceOptions } from "./device.js";
import { scenarios, type Remote } from "./scenarios.js";
import { Server } from "./server.js";

let server: Server;
let devices: Device[] = [];
const factory = new IDBFactory();
Object.assign(globalThis, { IDBKeyRange });

beforeAll(async () => {
  server = await Server.start();
});
afterAll(async () => {
  await server?.end();
});

scenarios({
  server: () => server,
  device: async (user, device) => {
    const make = (): Device => {
      const d = new Device(() => server.token(user, device), (name) => new IndexedDbStore(name, factory));
      devices.push(d);
      return d;
    };
    let now = make();
    const reload = async (options: DeviceOptions): Promise<void> => {
      await now.stop();
      now = make();
      await now.open(options);
    };
    return new Proxy({} as Remote, {
      get: (_, name: keyof Device | "reload" | "then") => {
        if (name === "then") return undefined;
        if (name === "reload") return reload;
        return async (...args: never[]) => (now[name] as (...args: never[]) => unknown)(...args);
      },
    });
  },
  clear: async () => {
    await Promise.all(devices.splice(0).map((d) => d.stop()));
  },
});

test("stopped clients leave no stream open, whatever the garbage collector took meanwhile", async () => {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  const streams = async (): Promise<number> => Number((await server.call<{ streams?: string }>("AdminService/GetStats", {})).streams ?? 0);
  const until = async (n: number): Promise<void> => {
    for (const end = Date.now() + 20_000; (await streams()) !== n && Date.now() < end; ) await new Promise((resolve) => setTimeout(resolve, 50));
    expect(await streams()).toBe(n);
  };
  await until(0);
  const open = Array.from({ length: 10 }, (_, i) => new Device(() => server.token(`collected${i}`, "1"), () => { throw new Error("no store"); }));
  devices.push(...open);
  await Promise.all(open.map((d) => d.open({ baseUrl: server.url })));
  await until(open.length);
  // Not before events have come on each: heartbeats do, every half second.
  for (let i = 0; i < 15; i++) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    collect();
  }
  await Promise.all(open.map((d) => d.stop()));
  await until(0);
});

test("the examples run", async () => {
  const run = async (name: string): Promise<string> => {
    // Each is a device of its own: of two streams of one device the newer ends the older.
    const [ALICE, BOB] = await Promise.all([server.token("alice", name), server.token("bob", name)]);
    const env = { ...process.env, PARLEY_URL: server.url, ALICE, BOB, SECONDS: "10" };
    const script = fileURLToPath(new URL("../../scripts/example.mjs", import.meta.url));
    return (await promisify(execFile)("node", [script, name], { env, timeout: 50_000 })).stdout;
  };
  expect(await run("quickstart")).toContain("alice: hi bob");
  const [state, bot, group, offline, http2] = await Promise.all(["state", "bot", "group", "offline", "http2"].map(run));
  expect(state).toContain("connection: live");
  expect(bot).toMatch(/alice: (over HTTP\/2|written in a tunnel)/);
  expect(group).toContain("not left: LAST_OWNER");
  expect(group).toContain("alice (owner), bob (admin)");
  expect(offline).toMatch(/pending while connecting\nsent as \d+/);
  expect(http2).toMatch(/sent as \d+/);
});
