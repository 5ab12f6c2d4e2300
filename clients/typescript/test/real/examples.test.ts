// The examples and the README's quick start, run as a reader runs them, against the real server.
import { spawn, type ChildProcess } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Server } from "./server.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
let server: Server;
let dir: string;
const running = new Set<ChildProcess>();

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "parley-examples-"));
  server = await Server.start();
});
afterAll(async () => {
  for (const child of running) child.kill("SIGKILL");
  await server?.end();
  await rm(dir, { recursive: true, force: true });
});

/** Tokens for a device of each: of two streams of one device the newer would end the older. */
async function tokens(device: string): Promise<Record<string, string>> {
  const [ALICE, BOB] = await Promise.all([server.token("alice", device), server.token("bob", device)]);
  return { ALICE, BOB };
}

/** Runs an example until it ends by itself, or has printed all of this; returns what it printed. */
async function run(example: string, env: Record<string, string>, shows: readonly RegExp[] = []): Promise<string> {
  const child = spawn(process.execPath, [join(root, "scripts", "example.mjs"), example], {
    cwd: root, // the examples' packages are those of the SDK
    env: { ...process.env, PARLEY_URL: server.url, SECONDS: "600", ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  running.add(child);
  let printed = "";
  let wrong = "";
  let shown = false;
  const code = await new Promise<number | null>((resolve) => {
    child.stderr.on("data", (b: Buffer) => (wrong += b.toString()));
    child.stdout.on("data", (b: Buffer) => {
      printed += b.toString();
      shown = shows.length > 0 && shows.every((line) => line.test(printed));
      if (shown) child.kill();
    });
    child.on("close", resolve);
  });
  running.delete(child);
  if (!shown) expect([code, wrong], `${example} printed:\n${printed}`).toEqual([0, ""]);
  expect(shown || shows.length === 0, `${example} ended, and printed:\n${printed}`).toBe(true);
  return printed;
}

test("the examples run", async () => {
  // What two of them are waited for; by themselves they go on.
  const shows: Record<string, RegExp[]> = {
    bot: [/alice: hi bob/, /alice: written in a tunnel/, /alice: over HTTP\/2/],
    state: [/connection: live/, /unread: \d/, /messages: .*#\d+ sent/],
  };
  const names = ["quickstart", "group", "offline", "http2", "bot", "state"];
  const envs = await Promise.all(names.map(tokens)); // all devices are there before anything is sent, so that nothing passes one by
  const printed = await Promise.all(names.map((name, i) => run(name, envs[i] ?? {}, shows[name])));
  expect(printed[0]).toContain("alice: hi bob");
  expect(printed[1]).toContain("not left: LAST_OWNER");
  expect(printed[1]).toContain("alice (owner), bob (admin)");
  expect(printed[2]).toMatch(/pending while connecting\nsent as \d+/);
  expect(printed[3]).toMatch(/sent as \d+/);
});

test("the README's quick start runs as it stands, and is one of ten lines", async () => {
  const block = /```ts\n(.*?)```/s.exec(await readFile(join(root, "README.md"), "utf8"))?.[1] ?? "";
  expect(block.trim().split("\n").length).toBeLessThanOrEqual(10);
  const file = join(dir, "quickstart.ts");
  const provider = 'const fetchMyToken = async (): Promise<string> => process.env["ALICE"] ?? "";\n';
  await writeFile(file, provider + block.replace("http://127.0.0.1:8080", server.url));
  await run(file, await tokens("readme"), [/^live/m, /body: 'hi bob'/]);
});
