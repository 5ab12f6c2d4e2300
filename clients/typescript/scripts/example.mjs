// Runs an example: node scripts/example.mjs quickstart. Node 20 reads no TypeScript, so it is bundled first.
import { build } from "esbuild";
import { rmSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const dir = await mkdtemp(join(root, "node_modules", ".example-"));
process.on("exit", () => rmSync(dir, { recursive: true, force: true }));
const outfile = join(dir, "example.mjs");
await build({
  entryPoints: [join(root, "examples", `${process.argv[2]}.ts`)],
  outfile,
  bundle: true,
  platform: "node",
  format: "esm",
  target: "node20",
  alias: { "@parley-im/client": join(root, "src", "index.ts") },
  external: ["@connectrpc/*", "@bufbuild/*", "fake-indexeddb"],
});
await import(pathToFileURL(outfile).href);
