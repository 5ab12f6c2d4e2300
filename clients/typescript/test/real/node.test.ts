import { IDBFactory, IDBKeyRange } from "fake-indexeddb";
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
    for (const end = Date.now() + 60_000; (await streams()) !== n && Date.now() < end; ) await new Promise((resolve) => setTimeout(resolve, 50));
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
