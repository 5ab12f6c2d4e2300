// Runs an example, or any other file that uses the SDK: node scripts/example.mjs quickstart|FILE.ts. Node 20 reads no
// TypeScript, so it is bundled first.
import { build } from "esbuild";
import { rmSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const wanted = process.argv[2] ?? "quickstart";
const dir = await mkdtemp(join(root, "node_modules", ".example-"));
process.on("exit", () => rmSync(dir, { recursive: true, force: true }));
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(1)); // by default neither gets there
const outfile = join(dir, "example.mjs");
await build({
  entryPoints: [wanted.endsWith(".ts") ? resolve(wanted) : join(root, "examples", `${wanted}.ts`)],
  outfile,
  bundle: true,
  platform: "node",
  format: "esm",
  target: "node20",
  alias: { "@parley-im/client": join(root, "src", "index.ts") },
  external: ["@connectrpc/*", "@bufbuild/*", "fake-indexeddb"],
});
await import(pathToFileURL(outfile).href);
