// Tabs of Chromium on the pages of the real server.
import axe from "axe-core";
import { spawnSync } from "node:child_process";
import { mkdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium, type Browser, type BrowserContext, type BrowserContextOptions, type Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect } from "vitest";
import { Server } from "../../../typescript/test/real/server.js";

const flags = [
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--disable-lcd-text",
];
/** Where pictures go with PARLEY_SCREENSHOTS=1; they hold times of day, so each run makes others. */
const folder = fileURLToPath(new URL("../../../../docs/screenshots", import.meta.url));
const maxPictureBytes = 100_000;
const takesPictures = process.env["PARLEY_SCREENSHOTS"] === "1";

export const desktop = { width: 1080, height: 700 };
export const phone = { width: 390, height: 760 };

export class World {
  server!: Server;
  #browser!: Browser;
  #contexts: BrowserContext[] = [];
  /** What pages complained about: errors, refused scripts and styles, requests to elsewhere. */
  complaints: string[] = [];

  async start(): Promise<void> {
    this.#browser = await chromium.launch({ executablePath: process.env["PARLEY_CHROMIUM"] ?? "/usr/bin/chromium", args: flags });
    this.server = await Server.start();
  }

  async end(): Promise<void> {
    await this.#browser?.close();
    await this.server?.end();
  }

  /** Closes all tabs. */
  async clear(): Promise<void> {
    await Promise.all(this.#contexts.splice(0).map((c) => c.close()));
    this.complaints = [];
  }

  /** A tab of a browser of its own. */
  async tab(path: string, options: BrowserContextOptions = {}): Promise<Page> {
    const context = await this.#browser.newContext({ viewport: desktop, locale: "en-GB", reducedMotion: "reduce", ...options });
    this.#contexts.push(context);
    context.setDefaultTimeout(120_000); // for a busy machine
    const page = await context.newPage();
    this.watch(page);
    await page.goto(this.server.url + path);
    return page;
  }

  watch(page: Page): void {
    page.on("pageerror", (err) => this.complaints.push(`error: ${err.message}`));
    page.on("console", (m) => {
      // A call that is refused or cut is the browser's own line, and part of what is tested.
      if (m.type() === "error" && !/^Failed to load resource/.test(m.text())) this.complaints.push(`console: ${m.text()}`);
    });
    page.on("request", (r) => {
      if (!r.url().startsWith(this.server.url) && !r.url().startsWith("blob:")) this.complaints.push(`request to ${r.url()}`);
    });
  }

  /** Signs in on the chat page as a user of the development server, on a device of its own. */
  async chat(user: string, options: BrowserContextOptions = {}): Promise<Page> {
    const page = await this.tab(`/#as=${user}`, options);
    await page.getByRole("heading", { level: 1, name: user }).waitFor();
    return page;
  }
}

/** The world of a file's tests: a server and a browser for all of them, of which each leaves no tabs and no complaints. */
export function newWorld(): World {
  const world = new World();
  beforeAll(() => world.start());
  afterAll(() => world.end());
  afterEach(async () => {
    world.server.link.open();
    const { complaints } = world;
    await world.clear();
    expect(complaints).toEqual([]);
  });
  return world;
}

let round = 0;

/** A user whom no other test has. */
export function user(name: string): string {
  return `${name}${++round}`;
}

/** Fails with what axe finds wrong, in the colours that the page has now. */
export async function accessible(page: Page, what: string): Promise<void> {
  await page.evaluate(axe.source);
  const { violations } = await page.evaluate(async () => {
    const { axe } = globalThis as unknown as { axe: { run: (o: object) => Promise<{ violations: Array<{ id: string; help: string; nodes: Array<{ html: string; failureSummary?: string }> }> }> } };
    return axe.run({ runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] });
  });
  const told = violations.map((v) => `${v.id}: ${v.help}\n  ${v.nodes.map((n) => `${n.html}\n  ${n.failureSummary ?? ""}`).join("\n  ")}`);
  expect(told, `${what} is not accessible`).toEqual([]);
}

/** Fails if the page can be moved sideways, or a part of it hangs out of its window. */
export async function fits(page: Page, what: string): Promise<void> {
  const out = await page.evaluate(() => {
    const told: string[] = [];
    if (document.documentElement.scrollWidth > innerWidth) told.push(`the page is ${document.documentElement.scrollWidth} wide`);
    const scrolls = (el: Element | null): boolean => el !== null && (/auto|scroll|hidden/.test(getComputedStyle(el).overflowX) || scrolls(el.parentElement));
    for (const el of document.body.querySelectorAll("*")) {
      const { left, right, width } = el.getBoundingClientRect();
      if (width > 0 && (left < -1 || right > innerWidth + 1) && !scrolls(el.parentElement)) told.push(`<${el.tagName} class="${el.getAttribute("class") ?? ""}"> from ${left} to ${right}`);
    }
    return told;
  });
  expect(out, `${what} at ${page.viewportSize()?.width}`).toEqual([]);
}

/**
 * Takes the pictures of a view for the documents: light, dark, and as on a phone. Before each `ready` puts in place what
 * moves with the width. Leaves the page light, and as wide as `desktop`.
 */
export async function pictures(page: Page, view: string, size = desktop, ready = async (): Promise<void> => {}): Promise<void> {
  if (!takesPictures) return;
  for (const [as, colorScheme, viewport] of [["light", "light", size], ["dark", "dark", size], ["phone", "light", phone]] as const) {
    await page.emulateMedia({ colorScheme });
    await page.setViewportSize(viewport);
    await ready();
    await picture(page, `${view}-${as}`);
  }
  await page.setViewportSize(desktop);
}

/** Takes a picture of the page for the documents. */
export async function picture(page: Page, name: string): Promise<void> {
  if (!takesPictures) return;
  await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve))));
  mkdirSync(folder, { recursive: true });
  const path = join(folder, `${name}.png`);
  await page.screenshot({ path });
  // A palette makes them half as large, where there is a program that does it.
  spawnSync("pngquant", ["--force", "--ext=.png", "--strip", "--speed=1", path]);
  expect(statSync(path).size, `${name}.png`).toBeLessThanOrEqual(maxPictureBytes);
}

/** Writes in the open conversation. */
export async function say(page: Page, text: string): Promise<void> {
  const box = page.getByRole("textbox", { name: /^Message to/ });
  await box.fill(text);
  await box.press("Enter");
}

/** Opens the direct conversation with a user. */
export async function write(page: Page, user: string): Promise<void> {
  await page.getByRole("button", { name: "New conversation" }).first().click();
  await page.getByLabel("User id", { exact: true }).fill(user);
  await page.getByRole("button", { name: "Open", exact: true }).click();
  await page.getByRole("textbox", { name: `Message to ${user}` }).waitFor();
}

/** An entry of the log that says this. */
export function entry(page: Page, text: string) {
  return page.locator("article.entry", { hasText: text });
}
