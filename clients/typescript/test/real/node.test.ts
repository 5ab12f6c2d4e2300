import { IDBFactory, IDBKeyRange } from "fake-indexeddb";
import { afterAll, beforeAll } from "vitest";
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
