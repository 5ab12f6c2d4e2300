import { build } from "esbuild";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { fileURLToPath } from "node:url";
import { chromium, type Browser, type BrowserContext, type Page } from "playwright-core";
import { afterAll, beforeAll } from "vitest";
import type { Device, DeviceOptions } from "./device.js";
import { scenarios, type Remote } from "./scenarios.js";
import { Server } from "./server.js";

const flags = [
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
];

let server: Server;
let browser: Browser;
let tabs: BrowserContext;
let origin: string;
const pages = createServer();

beforeAll(async () => {
  const { outputFiles } = await build({
    entryPoints: [fileURLToPath(new URL("page.ts", import.meta.url))],
    bundle: true, format: "esm", target: "es2022", platform: "browser", write: false,
  });
  const script = outputFiles[0]?.text;
  pages.on("request", (req, res) => {
    const isScript = req.url === "/page.js";
    res.setHeader("Content-Type", isScript ? "text/javascript" : "text/html");
    res.end(isScript ? script : `<!doctype html><title>device</title><script type="module" src="/page.js"></script>`);
  });
  await new Promise<void>((resolve) => pages.listen(0, "127.0.0.1", resolve));
  origin = `http://127.0.0.1:${(pages.address() as AddressInfo).port}`;
  const executablePath = process.env["PARLEY_CHROMIUM"] ?? "/usr/bin/chromium";
  browser = await chromium.launch({ executablePath, args: flags });
  server = await Server.start(origin);
  tabs = await browser.newContext();
  tabs.setDefaultTimeout(120_000); // for a busy machine
});
afterAll(async () => {
  await browser?.close();
  await server?.end();
  await new Promise((resolve) => pages.close(resolve));
});

async function load(page: Page): Promise<void> {
  await page.goto(origin);
  await page.waitForFunction("globalThis.device !== undefined");
}

scenarios({
  server: () => server,
  device: async (user, device) => {
    const page = await tabs.newPage();
    await page.exposeFunction("mint", () => server.token(user, device));
    await load(page);
    const call = (name: string, args: unknown[]): Promise<unknown> =>
      page.evaluate(([name, args]) => {
        const { device } = globalThis as unknown as { device: Record<string, (...args: unknown[]) => unknown> };
        return device[name as string]?.(...(args as unknown[]));
      }, [name, args] as const);
    const reload = async (options: DeviceOptions): Promise<void> => {
      await load(page);
      await call("open", [options]);
    };
    return new Proxy({} as Remote, {
      get: (_, name: keyof Device | "reload" | "then") => {
        if (name === "then") return undefined;
        return name === "reload" ? reload : (...args: unknown[]) => call(name, args);
      },
    });
  },
  clear: async () => {
    await Promise.all(tabs.pages().map((page) => page.close()));
  },
});
