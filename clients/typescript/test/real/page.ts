// What runs in a tab: one device, worked from outside.
import { IndexedDbStore } from "../../src/index.js";
import { Device } from "./device.js";

declare global {
  /** Gives a token for the device of this tab; lives outside of the page. */
  function mint(): Promise<string>;
}

Object.assign(globalThis, { device: new Device(() => globalThis.mint(), (name) => new IndexedDbStore(name)) });
